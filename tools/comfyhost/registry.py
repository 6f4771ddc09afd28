"""A stand-in, on this machine, for what Manager asks: ComfyUI's registry about one pack, and Hugging Face for files."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse


class Registry:
    """A running registry, as a context manager.

    `archives` are the pack's versions, oldest first, by number; `files` the contents of other paths.
    """

    def __init__(self, pack: str, repository: str, archives: dict[str, Path], files: dict[str, bytes]):
        self.pack = pack
        self.repository = repository
        self.archives = archives
        self.files = files

    def __enter__(self) -> Registry:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802, the base class's name
                content = registry.answer(self.path)
                self.send_response(404 if content is None else 200)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_) -> None:
                """Write nothing on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> bytes | None:
        """The body for a path; None when there is nothing."""
        asked = urlparse(path)
        if asked.path == "/nodes":
            return as_json({"nodes": [self.node()], "totalPages": 1})
        if asked.path == f"/nodes/{self.pack}/install":
            return as_json(self.version(parse_qs(asked.query).get("version", [self.latest])[0]))
        number = asked.path.removeprefix("/archives/")
        return self.archives[number].read_bytes() if number in self.archives else self.files.get(asked.path)

    @property
    def latest(self) -> str:
        return list(self.archives)[-1]

    def node(self) -> dict:
        """Return what the list of all packs says about this one."""
        return {
            "id": self.pack,
            "name": self.pack,
            "repository": self.repository,
            "publisher": {"id": "tests", "name": "tests"},
            "latest_version": self.version(self.latest),
        }

    def version(self, number: str) -> dict | None:
        """Return where a version can be had; None for an unknown one."""
        if number not in self.archives:
            return None
        return {
            "id": number,
            "version": number,
            "downloadUrl": f"{self.url}/archives/{number}",
            "status": "NodeVersionStatusActive",
            "dependencies": [],
        }


def as_json(value: object) -> bytes | None:
    return None if value is None else json.dumps(value).encode()
