"""Asking a web server for a file: what it says of it, and what is said when it does not have it."""

import socket
import ssl
import struct
import threading
from http.client import HTTPMessage
from types import SimpleNamespace

import pytest
from ipadapter_instruct.models.files.web import (
    DownloadError,
    PassingError,
    Remote,
    UnreachableError,
    ask,
    opened,
    read_headers,
    unreachable,
)
from support.servers.file_server import Served, serving

CONTENT = bytes(300_000)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def served():
    return Served(CONTENT)


@pytest.fixture
def url(served):
    with serving(served) as address:
        yield f"{address}/adapter.bin"


def test_a_plain_server_tells_the_size_and_a_version(url, served):
    assert ask(url) == Remote(300_000, "", "first")
    assert served.sent == []  # of more than one byte
    assert served.handed_out == [1]


def test_hugging_face_tells_the_sha256_on_the_way_to_its_storage(url, served):
    served.linked = True
    assert ask(url) == Remote(300_000, served.sha256, served.sha256)


def test_a_link_that_says_nothing_of_the_file_is_followed(url, served):
    served.bare_link = True
    assert ask(url) == Remote(300_000, "", "first")


def test_an_etag_that_is_a_sha256_is_taken_for_one(url, served):
    served.tag = f'"{served.sha256}"'
    assert ask(url).sha256 == served.sha256


def test_the_bytes_come_from_the_one_asked_for_or_from_the_first(url, served):
    with opened(url, "bytes=299990-") as answer:
        assert (answer.start, b"".join(answer.chunks())) == (299_990, bytes(10))
    served.knows_range = False
    with opened(url, "bytes=299990-") as answer:
        assert (answer.start, sum(map(len, answer.chunks()))) == (0, 300_000)


def test_a_connection_that_is_reset_says_how_much_had_come():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reset = threading.Event()
        thread = threading.Thread(target=answer_and_reset, args=(listening, reset))
        thread.start()
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        with opened(f"http://{host}/x", "bytes=0-") as answer:
            chunks = answer.chunks()
            assert next(chunks) == bytes(10)
            reset.set()
            with pytest.raises(PassingError, match=f"{host} broke after 10 of 300,000 bytes.*reset"):
                next(chunks)
        thread.join()


def answer_and_reset(listening: socket.socket, reset: threading.Event) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(10))
        reset.wait(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ({"status": 404}, DownloadError, r"has no http://.*/adapter\.bin \(404\)\. .* newer version of this pack"),
        ({"status": 401}, DownloadError, r"\(401\)\. Open the file's page in a browser and sign in"),
        ({"status": 403}, DownloadError, r"\(403\)\. .* accept its terms"),
        ({"status": 503}, PassingError, r"too busy .* \(503\)\. Run the same command again later"),
        ({"status": 410}, DownloadError, r"answers 410 .* Open the address in a browser"),
        ({"content_type": "text/html; charset=utf-8"}, DownloadError, r"sent a web page\. A proxy or .* sign-in"),
        ({"linked": True, "linked_size": 7}, DownloadError, r"says 300000 bytes, its link 7\. A proxy or mirror"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, dict) else "",
)
def test_a_refusal_says_who_what_and_what_to_do(url, served, behaviour, error, message):
    vars(served).update(behaviour)
    with pytest.raises(error, match=message) as caught:
        ask(url)
    assert caught.type is error
    assert f"{url.split('/')[2]} " in str(caught.value).replace(url, "")


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_not_there_is_named_with_what_to_do():
    host = closed_port()
    with pytest.raises(UnreachableError) as caught:
        ask(f"http://{host}/adapter.bin")
    for part in (f"{host} cannot be reached", "refused", "Check the network", "HTTPS_PROXY", "HF_ENDPOINT"):
        assert part in str(caught.value)


def test_a_certificate_that_is_not_trusted_has_a_hint_of_its_own():
    message = str(unreachable("https://huggingface.co/x", ssl.SSLCertVerificationError("self-signed")))
    assert "huggingface.co cannot be reached" in message
    assert "SSL_CERT_FILE" in message
    assert "HTTPS_PROXY" not in message


def test_a_proxy_that_answers_with_its_own_page_is_seen(url, served, monkeypatch):
    monkeypatch.setenv("http_proxy", url)
    served.content_type = "text/html"
    with pytest.raises(DownloadError, match=r"expected from http://huggingface\.invalid/adapter\.bin .* A proxy"):
        ask("http://huggingface.invalid/adapter.bin")


@pytest.mark.parametrize("tag", ['W/"second"', '"second"', "second"], ids=["weak", "quoted", "bare"])
def test_a_tag_is_told_by_what_is_in_its_quotes(url, served, tag):
    served.tag = tag
    assert ask(url).version == "second"


def said(**headers: str) -> Remote:
    """What is made of an answer with these headers."""
    message = HTTPMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return read_headers("http://a/b", SimpleNamespace(headers=message, url="http://a/b"), {}).remote


def test_a_file_of_no_stated_size_is_refused():
    with pytest.raises(DownloadError, match=r"^http://a/b was expected .* says 0 bytes\. A proxy or mirror"):
        said(ETag="first")


def test_without_a_tag_the_date_of_the_last_change_is_the_version():
    date = "Thu, 01 Aug 2024 10:00:00 GMT"
    assert said(Content_Length="5", Last_Modified=date) == Remote(5, "", date)
    assert said(Content_Length="5", Last_Modified=date, ETag="first") == Remote(5, "", "first")
    assert said(Content_Length="5") == Remote(5, "", "")
