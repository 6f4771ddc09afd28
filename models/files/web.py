"""Ask a web server for a file from any byte on. Standard library, and certifi's certificates where it is there."""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 18
BUSY = (408, 425, 429, 500, 502, 503, 504)
SHA256 = re.compile(r"[0-9a-f]{64}")
# Where Hugging Face states what its storage will send: in its own answer, before it sends there.
LINKED_TAG, LINKED_SIZE = "X-Linked-ETag", "X-Linked-Size"


class DownloadError(Exception):
    """A failure whose message says what happened and what to do."""


class PassingError(DownloadError):
    """A failure that may pass by itself. What was received before it is kept."""


class UnreachableError(PassingError):
    """A failure to reach the server at all."""


@dataclass(frozen=True)
class Remote:
    """The facts that a server states of a file. `version` changes with its content; sha256 is "" when not stated."""

    size: int
    sha256: str
    version: str


@dataclass(frozen=True)
class Answer:
    """A file from byte `start` on, as it arrives."""

    remote: Remote
    start: int
    response: http.client.HTTPResponse

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes. Raises PassingError when they end too early."""
        position = self.start
        try:
            while chunk := self.response.read1(CHUNK):
                position += len(chunk)
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise broken_off(self.response.url, position, self.remote.size, str(error)) from error
        if position < self.remote.size:
            raise broken_off(self.response.url, position, self.remote.size, "the server closed it")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps what they say of the file that they lead to."""

    def __init__(self) -> None:
        self.stated: dict[str, str] = {}

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        for name in (LINKED_TAG, LINKED_SIZE):
            if name in headers:
                self.stated.setdefault(name, headers[name])
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str) -> Remote:
    """Return what the server says of a file. It is asked for one byte, which every storage answers, unlike HEAD."""
    with opened(url, "bytes=0-0") as answer:
        return answer.remote


@contextlib.contextmanager
def opened(url: str, span: str) -> Iterator[Answer]:
    """Yield the answer with a file's bytes in `span`, a Range, or with all where the server does not know Range.

    Proxies are those of the environment and the system. Raises UnreachableError, PassingError for a busy server,
    and DownloadError for one that says no or sends something else.
    """
    redirects = Redirects()
    secure = urllib.request.HTTPSHandler(context=certificates())
    request = urllib.request.Request(url, headers={"Range": span, "User-Agent": "ComfyUI-IPAdapter-Instruct"})
    try:
        response = urllib.request.build_opener(redirects, secure).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise refused(url, error.code) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise unreachable(url, getattr(error, "reason", error)) from error
    with response:
        yield read_headers(url, response, redirects.stated)


@functools.cache
def certificates() -> ssl.SSLContext:
    """Return the system's certificates, of which some pythons find none, and certifi's, nearly always there."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def read_headers(url: str, response: http.client.HTTPResponse, stated: dict[str, str]) -> Answer:
    """Check that this is a file, and read what is said of it."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise DownloadError(
            f"A file was expected from {url} ; {host(response.url)} sent a web page. A proxy or a network's sign-in "
            "page may stand in between: open the address in a browser to see what it wants."
        )
    tag = stated.get(LINKED_TAG) or headers.get(LINKED_TAG) or headers.get("ETag", "")
    plain = tag.removeprefix("W/").strip('"')
    start, size = span_and_size(headers)
    linked = stated.get(LINKED_SIZE) or headers.get(LINKED_SIZE) or str(size)
    if not size or linked != str(size):
        raise DownloadError(
            f"{url} was expected to be a file of a stated size; {host(response.url)} says {size} bytes"
            f"{f', its link {linked}' if linked != str(size) else ''}. A proxy or mirror may alter it: try without."
        )
    version = plain or headers.get("Last-Modified", "")
    return Answer(Remote(size, plain if SHA256.fullmatch(plain) else "", version), start, response)


def span_and_size(headers: http.client.HTTPMessage) -> tuple[int, int]:
    """Return the first byte that is sent, and the whole file's size; 0 for a size that is not said."""
    part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    return (int(part[1]), int(part[2])) if part else (0, int(headers.get("Content-Length", 0)))


def refused(url: str, status: int) -> DownloadError:
    """Return the error for an answer that says no."""
    if status in BUSY:
        return PassingError(f"{host(url)} is too busy to send {url} ({status}). Run the same command again later.")
    if status in (401, 403):
        return DownloadError(
            f"{host(url)} does not let everybody have {url} ({status}). Open the file's page in a browser and sign in, "
            "or accept its terms there; or see whether a proxy forbids it."
        )
    if status == 404:
        return DownloadError(
            f"{host(url)} has no {url} (404). The file may have moved: look for a newer version of this pack. If "
            "HF_ENDPOINT names a mirror, the mirror may lack it: try without."
        )
    return DownloadError(f"{host(url)} answers {status} for {url} . Open the address in a browser to see what it says.")


def unreachable(url: str, reason: object) -> UnreachableError:
    hint = "Check the network and, behind a proxy, the variables HTTPS_PROXY and NO_PROXY"
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "If your network's own certificates are needed, name their file in SSL_CERT_FILE"
    return UnreachableError(
        f"{host(url)} cannot be reached ({reason}). {hint}. Where Hugging Face is blocked, set HF_ENDPOINT to a "
        "mirror, for example HF_ENDPOINT=https://hf-mirror.com"
    )


def broken_off(url: str, position: int, size: int, reason: str) -> PassingError:
    return PassingError(
        f"The connection to {host(url)} broke after {position:,} of {size:,} bytes ({reason}). "
        "Run the same command again to go on from there."
    )


def host(url: str) -> str:
    """Return the server's name, and its port if it has a special one."""
    return urlsplit(url).netloc
