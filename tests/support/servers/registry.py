"""A stand-in, on this machine, for what Manager asks: ComfyUI's registry about one pack, and Hugging Face for files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from support.servers.file_server import answering


@dataclass
class Registry:
    """A registry's answers. archives: the pack's versions, oldest first, by number. files: contents of other paths."""

    pack: str
    repository: str
    archives: dict[str, Path]
    files: dict[str, bytes]
    url: str = ""

    @contextmanager
    def running(self) -> Iterator[Registry]:
        with answering(type("Handler", (Handler,), {"registry": self})) as self.url:
            yield self

    def answer(self, path: str) -> bytes | None:
        """The body for a path; None when there is nothing."""
        asked = urlparse(path)
        latest = list(self.archives)[-1]
        if asked.path == "/nodes":
            about = {"id": self.pack, "name": self.pack, "repository": self.repository}
            about |= {"publisher": {"id": "tests", "name": "tests"}, "latest_version": self.version(latest)}
            return json.dumps({"nodes": [about], "totalPages": 1}).encode()
        if asked.path == f"/nodes/{self.pack}/install":
            number = parse_qs(asked.query).get("version", [latest])[0]
            return json.dumps(self.version(number)).encode() if number in self.archives else None
        number = asked.path.removeprefix("/archives/")
        return self.archives[number].read_bytes() if number in self.archives else self.files.get(asked.path)

    def version(self, number: str) -> dict:
        """Return where a version can be had."""
        about = {"id": number, "version": number, "downloadUrl": f"{self.url}/archives/{number}"}
        return {**about, "status": "NodeVersionStatusActive", "dependencies": []}


class Handler(BaseHTTPRequestHandler):
    registry: Registry

    def do_GET(self) -> None:  # noqa: N802 (the name http.server calls)
        content = self.registry.answer(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_) -> None:
        pass
