"""A judge of images over HTTP: a small server that answers as OpenAI's API does."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


class Answering(ThreadingHTTPServer):
    """Answers chat completions by `reply`, given the request; keeps requests and their headers."""

    def __init__(self, reply: Callable[[dict], object]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: list[dict] = []
        self.headers: list[dict] = []
        self.paths: list[str] = []
        self.gets: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self):  # noqa: N802 (the base class's)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.server.headers.append(dict(self.headers))
        self.server.paths.append(self.path)
        said = self.server.reply(asked)
        status, body, *headers = said if isinstance(said, tuple) else (200, chat(said))
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):  # noqa: N802
        self.server.gets.append(self.path)
        self.send_error(405)

    def log_message(self, *_):
        pass


def chat(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


def pictures(asked: dict) -> list[str]:
    """The colours of the pictures in a request, in order."""
    parts = [part for message in asked["messages"] for part in message["content"] if isinstance(part, dict)]
    files = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(file.startswith("data:image/jpeg;base64,") for file in files)
    seen = [Image.open(io.BytesIO(base64.b64decode(file.partition(",")[2]))) for file in files]
    assert {picture.size for picture in seen} <= {(512, 512)}
    return ["red" if picture.getpixel((256, 256))[0] > 128 else "blue" for picture in seen]


def marks(asked: dict) -> str:
    """Four for two pictures of one colour, one for two of different ones, and three for a prompt."""
    seen = pictures(asked)
    return f"Score: {3 if len(seen) == 1 else 4 if seen[0] == seen[1] else 1}"
