"""A web server of one file that misbehaves as told. It counts the bytes that it hands out."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 1 << 14


@dataclass
class Served:
    """What the server does. Addresses that begin with /storage are the storage that `linked` redirects to.

    linked: as Hugging Face does, redirect, and state size and sha256 in the redirect's headers.
    bare_link: redirect without a word of the file.
    stated_size, linked_size, linked_sha256: what is said, where it is not the truth.
    cuts: after how many bytes to close the connection, one for each request for more than a byte; then never.
    """

    content: bytes
    tag: str = '"first"'
    linked: bool = False
    bare_link: bool = False
    knows_range: bool = True
    status: int = 0
    content_type: str = "application/octet-stream"
    stated_size: int = 0
    linked_size: int = 0
    linked_sha256: str = ""
    seconds_a_chunk: float = 0.0
    cuts: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    handed_out: list[int] = field(default_factory=list)
    at_work: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def size(self) -> int:
        return self.stated_size or len(self.content)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def sent(self) -> list[int]:
        """Bytes handed out for each request for more than a byte, once all requests are answered."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self.at_work, timeout=10)
            return [count for count in self.handed_out if count != 1]

    def forget(self) -> None:
        """Count anew, once all requests are answered."""
        _ = self.sent
        self.handed_out.clear()
        self.asked.clear()

    @contextmanager
    def working(self) -> Iterator[None]:
        with self.changed:
            self.at_work += 1
        try:
            yield
        finally:
            with self.changed:
                self.at_work -= 1
                self.changed.notify_all()


class Handler(http.server.BaseHTTPRequestHandler):
    served: Served

    def handle(self) -> None:
        with self.served.working():
            super().handle()

    def do_GET(self) -> None:  # noqa: N802 (the name http.server calls)
        if self.served.status:
            self.answer(self.served.status, {"Content-Length": "0"})
        elif (self.served.linked or self.served.bare_link) and not self.path.startswith("/storage"):
            self.redirect()
        else:
            self.send_file()

    def redirect(self) -> None:
        size, sha256 = self.served.linked_size or self.served.size, self.served.linked_sha256 or self.served.sha256
        linked = {"X-Linked-Size": str(size), "X-Linked-ETag": f'"{sha256}"'}
        stated = {} if self.served.bare_link else linked
        self.answer(302, {"Location": f"/storage{self.path}", "Content-Length": "0", **stated})

    def send_file(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.served.knows_range else None
        start, last = (int(span[1]), int(span[2] or self.served.size - 1)) if span else (0, self.served.size - 1)
        headers = {"Content-Length": str(last - start + 1), "Content-Type": self.served.content_type}
        if self.served.tag:
            headers["ETag"] = self.served.tag
        if span:
            headers["Content-Range"] = f"bytes {start}-{last}/{self.served.size}"
        self.answer(206 if span else 200, headers)
        self.send(self.served.content[start : last + 1])

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.served.asked.append(self.headers.get("Range", ""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, content: bytes) -> None:
        end = self.served.cuts.pop(0) if len(content) > 1 and self.served.cuts else len(content)
        sent = 0
        with suppress(OSError):  # the client goes away
            for start in range(0, end, CHUNK):
                sent += self.wfile.write(content[start : min(start + CHUNK, end)])
                time.sleep(self.served.seconds_a_chunk)
        self.served.handed_out.append(sent)

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[str]:
    """Serve on a free port; the server's address. It may be told otherwise meanwhile."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"served": served}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
