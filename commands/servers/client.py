"""Talk to a running ComfyUI: queue prompts, follow them, fetch what they made. Every call is synchronous."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

SILENCE = 20  # seconds without a word, after which the server is asked what became of a prompt
ANSWER = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=300)
GONE = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


class ClientError(ValueError):
    """The server could not be reached, or answered with an error."""


class PromptRejectedError(ClientError):
    """The server refused a prompt; the message gives its reasons node by node."""


class NodeFailedError(ClientError):
    """A node raised an error. `node_id`, `node_type`, `reason` and `traceback` are the server's."""

    def __init__(self, node_id: str, node_type: str, reason: str, traceback: str = ""):
        super().__init__(f"Node {node_id} ({node_type}) failed: {reason}")
        self.node_id = node_id
        self.node_type = node_type
        self.reason = reason
        self.traceback = traceback


class RunInterruptedError(ClientError):
    """The run was interrupted."""


@dataclass(frozen=True)
class Progress:
    """A node's beginning (`value` and `maximum` 0), or a step of it that was done."""

    node_id: str
    value: float = 0
    maximum: float = 0


Listener = Callable[[Progress], None]


@dataclass
class Run:
    """The results of one prompt: each node's `ui` output and seconds by node id; the nodes that were cached."""

    prompt_id: str
    outputs: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    node_id: str | None = None  # the node at work, while there is one
    since: float = 0.0

    def images(self) -> list[dict]:
        return [image for output in self.outputs.values() for image in output.get("images", [])]

    def take_history(self, history: dict) -> None:
        """Take in what the server keeps of this prompt, once it has ended; it raises as `take` does."""
        self.outputs = history.get("outputs") or {}
        for kind, data in (history.get("status") or {}).get("messages", []):
            if kind != "execution_cached":
                self.take(kind, data, lambda progress: None)

    def take(self, kind: str | None, data: dict, tell: Listener) -> bool:
        """Take in a message of the server's, if it is about this prompt; return True for the one that ends it."""
        if data.get("prompt_id") != self.prompt_id:
            return False
        match kind:
            case "execution_cached":
                self.cached = list(data["nodes"])
            case "executing":
                now = time.monotonic()
                if self.node_id is not None:
                    self.seconds[self.node_id] = self.seconds.get(self.node_id, 0.0) + now - self.since
                self.node_id, self.since = data["node"], now
                if self.node_id is None:
                    return True
                tell(Progress(self.node_id))
            case "progress":
                tell(Progress(data["node"] or self.node_id or "", data["value"], data["max"]))
            case "executed":
                self.outputs[data["node"]] = data.get("output") or {}
            case "execution_error":
                reason, traceback = data["exception_message"].strip(), "".join(data.get("traceback", []))
                raise NodeFailedError(data["node_id"], data["node_type"], reason, traceback)
            case "execution_interrupted":
                raise RunInterruptedError(f"The run was interrupted at node {data['node_id']} ({data['node_type']}).")
        return False


class Client:
    """A connection to the server at `url`, as a context manager. Not for several threads."""

    def __init__(self, url: str):
        self.url = url
        self.client_id = uuid.uuid4().hex

    def __enter__(self) -> Client:
        self.loop = asyncio.new_event_loop()
        try:
            self.do(self.connect())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        try:
            self.loop.run_until_complete(self.session.close())
        finally:
            self.loop.close()

    def do(self, call: Coroutine) -> Any:
        """Run a call to its end; a lost connection becomes a ClientError."""
        try:
            return self.loop.run_until_complete(call)
        except (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError) as error:
            said = str(error) or "no answer in time"
            raise ClientError(
                f"ComfyUI at {self.url} does not answer ({said}). It may have stopped: its log says why."
            ) from error

    async def connect(self) -> None:
        """Open the session and the websocket; the server's first message says that it knows us."""
        self.session = aiohttp.ClientSession(self.url, timeout=ANSWER)
        self.socket = await self.session.ws_connect(f"/ws?clientId={self.client_id}", max_msg_size=0)
        await self.socket.receive(timeout=30)

    def get(self, path: str, **params: str) -> Any:
        return self.do(self.request("GET", path, params=params))

    def object_info(self) -> dict[str, dict]:
        return self.get("/object_info")

    def upload_image(self, content: bytes | Path, name: str, subfolder: str = "") -> str:
        """Put a picture into the server's input folder, replacing one of that name; return what LoadImage calls it."""
        form = aiohttp.FormData({"overwrite": "true", "subfolder": subfolder})
        content = content.read_bytes() if isinstance(content, Path) else content
        form.add_field("image", content, filename=name, content_type="image/png")
        there = self.do(self.request("POST", "/upload/image", data=form))
        return "/".join(filter(None, (there["subfolder"], there["name"])))

    def download(self, image: dict) -> bytes:
        """A picture's file, as made by a run (see `Run.images`)."""
        return self.do(self.request("GET", "/view", params=image, as_bytes=True))

    def post(self, path: str, **body) -> None:
        """Make a request that has no answer but that it was taken."""
        self.do(self.request("POST", path, json=body))

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, and interrupt it if it runs; those of others go on."""
        self.post("/queue", delete=[prompt_id])
        self.post("/interrupt", prompt_id=prompt_id)

    def queue(self, prompt: dict, workflow: dict | None = None) -> str:
        """Queue an API prompt and return its id. Raises PromptRejectedError with the server's reasons.

        With `workflow`, the saved workflow behind the prompt, ComfyUI opens it from the pictures made.
        """
        body = {"prompt": prompt, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        answer = self.do(self.request("POST", "/prompt", json=body))
        if answer.get("node_errors"):  # some of its outputs would run without the others
            self.cancel(answer["prompt_id"])
            raise PromptRejectedError(reasons("ComfyUI refused a part of the prompt.", answer["node_errors"]))
        return answer["prompt_id"]

    def wait(
        self,
        prompt_id: str,
        on_progress: Listener | None = None,
        timeout: float = 600,
        go_on: Callable[[], bool] = lambda: True,
    ) -> Run:
        """Follow a queued prompt to its end.

        `on_progress` may use the client. `go_on` is asked every second. Raises NodeFailedError; RunInterruptedError,
        also when `go_on` says no; or ClientError when it takes longer than `timeout` seconds, or was lost.
        """
        run, deadline, heard = Run(prompt_id), time.monotonic() + timeout, time.monotonic()
        while time.monotonic() < deadline:
            if not go_on():
                raise RunInterruptedError("It was not waited for.")
            message = self.do(self.next_message(min(1.0, deadline - time.monotonic())))
            heard = time.monotonic() if message else heard
            if run.take(message.get("type"), message.get("data") or {}, on_progress or (lambda progress: None)):
                return run
            if time.monotonic() > heard + SILENCE:
                heard = time.monotonic()
                if self.has_ended(run):
                    return run
        raise ClientError(
            f"The prompt was not done within {timeout:.0f} s. Use fewer steps or a smaller picture, or wait longer."
        )

    def has_ended(self, run: Run) -> bool:
        """Return True when the server keeps the run's results, which are then taken in. Raises as `wait` does."""
        queue = self.do(self.request("GET", "/queue"))
        if any(run.prompt_id in entry for entries in queue.values() for entry in entries):
            return False
        history = self.do(self.request("GET", f"/history/{run.prompt_id}"))
        if run.prompt_id not in history:
            raise ClientError(f"ComfyUI at {self.url} no longer knows the prompt. It may have been started anew.")
        run.take_history(history[run.prompt_id])
        return True

    def run(
        self, prompt: dict, on_progress: Listener | None = None, timeout: float = 600, workflow: dict | None = None
    ) -> Run:
        return self.wait(self.queue(prompt, workflow), on_progress, timeout)

    async def next_message(self, timeout: float) -> dict:
        """The server's next message; an empty one for previews, and when none comes in time."""
        try:
            message = await self.socket.receive(timeout)
        except asyncio.TimeoutError:
            return {}
        if message.type in GONE:
            raise ConnectionError("it closed the connection")
        return message.json() if message.type is aiohttp.WSMsgType.TEXT else {}

    async def request(self, method: str, path: str, as_bytes: bool = False, **options) -> Any:
        """Make one HTTP request and return its JSON, its bytes, or None when the answer is empty."""
        async with self.session.request(method, path, allow_redirects=False, **options) as response:
            content = await response.read()
        if response.status >= 300:  # nothing but this server is called
            raise refusal(f"{method} {path}", response.status, content)
        if as_bytes:
            return content
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            said = content.decode("utf-8", "replace").strip()[:300]
            raise ClientError(
                f"{self.url} was expected to be a ComfyUI; it answered {method} {path}: {said}"
            ) from error


def refusal(call: str, status: int, content: bytes) -> ClientError:
    """The error for an answer that says no; of a prompt, a line for the whole and one for each node's reason."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "error" not in answer:
        said = content.decode("utf-8", "replace").strip()[:300]
        return ClientError(f"ComfyUI answered {call} with {status}: {said or 'nothing more'}. Its log may say why.")
    error = answer["error"]
    said = f"ComfyUI refused the prompt: {error['message'] if isinstance(error, dict) else error}."
    return PromptRejectedError(reasons(said, answer.get("node_errors") or {}))


def reasons(said: str, node_errors: dict[str, dict]) -> str:
    """Return what a server said of a prompt, with its reasons node by node."""
    lines = [said]
    for node_id, node in node_errors.items():
        found = (": ".join(filter(None, (one["message"], one.get("details")))) for one in node["errors"])
        lines += [f"- node {node_id} ({node['class_type']}): {reason}" for reason in found]
    return "\n".join(lines)
