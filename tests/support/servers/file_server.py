"""A web server that has one file at every address, as Hugging Face has files, and misbehaves as told."""

from __future__ import annotations

import hashlib
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace

CHUNK = 1 << 14


@dataclass
class Served:
    """The server's behaviour, and the bytes that it handed out.

    linked: as Hugging Face does with large files, redirect to a storage of another name, and state size and sha256 in
    the redirect's headers. moved: redirect on the same host, without a word of the file.
    commit: of the repository, which only Hugging Face and its mirrors state.
    stated_size, linked_sha256: what is said, where it is not the truth.
    cuts: after how many bytes to close the connection, one for each request for the content; then never.
    resets: close it with a reset.
    """

    content: bytes
    tag: str = '"first"'
    linked: bool = False
    moved: bool = False
    commit: str = "0" * 40
    knows_range: bool = True
    status: int = 0
    content_type: str = "application/octet-stream"
    stated_size: int = 0
    linked_sha256: str = ""
    resets: bool = False
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
        """Bytes handed out for each request for the content, once all requests are answered."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self.at_work, timeout=10)
            return list(self.handed_out)

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
        is_storage = self.path.startswith("/storage")
        if self.path.startswith("/api/"):  # newer versions of huggingface_hub ask of themselves
            self.send_error(404)
        elif self.served.status:
            self.answer(self.served.status, {"Content-Length": "0"})
        elif self.served.linked and not is_storage:
            sha256 = self.served.linked_sha256 or self.served.sha256
            linked = {"X-Linked-Size": str(self.served.size), "X-Linked-ETag": f'"{sha256}"'}
            storage = f"http://localhost:{self.server.server_port}/storage{self.path}"
            self.answer(302, {"Location": storage, "Content-Length": "0", **linked})
        elif self.served.moved and not is_storage:
            self.answer(307, {"Location": f"/storage{self.path}", "Content-Length": "0"})
        else:
            self.send_file()

    do_HEAD = do_GET  # noqa: N815

    def send_file(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.served.knows_range else None
        start, last = (int(span[1]), int(span[2] or self.served.size - 1)) if span else (0, self.served.size - 1)
        headers = {"Content-Length": str(last - start + 1), "Content-Type": self.served.content_type}
        if self.served.tag:
            headers["ETag"] = self.served.tag
        if span:
            headers["Content-Range"] = f"bytes {start}-{last}/{self.served.size}"
        self.answer(206 if span else 200, headers)
        if self.command == "GET":
            self.send(self.served.content[start : last + 1])

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.served.asked.append(f"{self.command} {self.headers.get('Range', '')}".strip())
        self.send_response(status)
        if self.served.commit:
            self.send_header("X-Repo-Commit", self.served.commit)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, content: bytes) -> None:
        end = self.served.cuts.pop(0) if self.served.cuts else len(content)
        sent = 0
        with suppress(OSError):  # the client goes away
            for start in range(0, end, CHUNK):
                sent += self.wfile.write(content[start : min(start + CHUNK, end)])
                time.sleep(self.served.seconds_a_chunk)
        self.served.handed_out.append(sent)
        if self.served.resets and end < len(content):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_) -> None:
        pass


def serving(served: Served) -> AbstractContextManager[str]:
    """Serve on a free port; the server's address. It may be told otherwise meanwhile."""
    return answering(type("Handler", (Handler,), {"served": served}))


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests on a free port; the server's address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask_here(monkeypatch, address: str) -> None:
    """Have this process' huggingface_hub, which reads HF_ENDPOINT but once, ask another server, without waiting."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(file_download, "time", impatient)
    monkeypatch.setattr(_http, "time", impatient)
