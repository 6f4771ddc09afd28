"""Start and stop a real ComfyUI server that has this repository, or a copy, as its only custom node pack."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from comfyhost.install import Pip, clean_environment, exit_code, only_one, run, say
from comfyhost.packed_folders import PackedFolder
from comfyhost.places import PACK_FOLDER, REPO_ROOT, TOOLS, Host, ToolError, cache_folder, host
from comfyhost.standins import put_in_place, write_examples

ADDRESS = "127.0.0.1"
ALWAYS = ("--disable-auto-launch", "--preview-method", "none", "--disable-api-nodes")
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # torch's idle threads spin otherwise, and others wait for the core
ACCELERATORS = """
import torch
kinds = (torch.cuda, torch.backends.mps, getattr(torch, "xpu", None))
print(any(kind is not None and kind.is_available() for kind in kinds))
"""

# ComfyUI's page: the one installed beside it, and a newer one kept in the cache folder.
INSTALLED = "installed"
NEWER = "1.58.1"
PAGE = PackedFolder(
    "ComfyUI's page", TOOLS / "frontend-wheel.txt", "comfyui_frontend_package/static/", ("index.html", "assets")
)


class ServerError(ToolError):
    """The server did not start, or went away; the message ends with its log's last lines."""


@dataclass
class ComfyServer:
    """A running ComfyUI, as a context manager. On the CPU, but a user's own on whatever its torch finds.

    `comfyui` None is the one in use. `base` receives its custom_nodes, input, output, temp and user folders and a link
    to the models; None is a temporary folder, removed at the end. `port` None is a free one. `arguments` and
    `environment` are added to the command's own. With `quiet` False the log goes to the terminal instead of a file.
    `pack` is its only custom node pack; None leaves `base` as it is.
    """

    comfyui: Host | None = None
    base: Path | None = None
    port: int | None = None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = True
    pack: Path | None = REPO_ROOT

    def __post_init__(self):
        self.comfyui = self.comfyui or host()
        self.environment = {**ENVIRONMENT, **clean_environment(), **self.environment}
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> ComfyServer:
        with ExitStack() as stack:
            if self.base is None:
                temporary = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
                self.base = Path(stack.enter_context(temporary))
            stack.callback(self.stop)
            if self.pack:
                for name in ("custom_nodes", "input", "output", "temp", "user"):
                    (self.base / name).mkdir(parents=True, exist_ok=True)
                link(self.base / "custom_nodes" / PACK_FOLDER, self.pack)
                link(self.base / "models", self.comfyui.models)
            self.port = free_port(self.port)
            self.url = f"http://{ADDRESS}:{self.port}"
            self.start()
            self.closing = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.closing.close()

    def start(self) -> None:
        """Start the process and wait for an answer. It stays in our process group, so that Ctrl-C reaches it too."""
        with open(self.base / "server.log", "wb") as log:
            streams = {"stdout": log, "stderr": log} if self.quiet else {}
            try:
                self.process = subprocess.Popen(self.command(), cwd=self.base, env=self.environment, **streams)
            except OSError as error:
                why = f"{self.comfyui.python} could not be started ({error.strerror}). Run `make setup` first."
                raise ServerError(why) from error
        deadline = time.monotonic() + 240
        while not answers(f"{self.url}/system_stats"):
            self.check_alive()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"ComfyUI did not answer on {self.url} within 240 s. {self.log_tail()}\n"
                    "Is the machine busy, or a custom node waiting for something? The last lines above should tell."
                )
            time.sleep(0.2)

    def command(self) -> list[str]:
        """The command line; --cpu but for a user's own ComfyUI whose torch has something faster, which then chooses."""
        main = [str(self.comfyui.python), str(self.comfyui.comfyui / "main.py")]
        device = [] if self.comfyui.users_own and has_accelerator(self.comfyui.python) else ["--cpu"]
        listen = ["--listen", ADDRESS, "--port", str(self.port)]
        database = f"sqlite:///{self.base / 'user' / 'comfyui.db'}"
        places = ["--base-directory", str(self.base), "--database-url", database]
        return [*main, *device, *ALWAYS, *listen, *places, *self.arguments]

    def check_alive(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise ServerError(
                f"ComfyUI ended with exit code {code}. {self.log_tail()}\n"
                "If a module is missing: run `make setup` again, or install it when COMFYUI_PATH is set."
            )

    def log_text(self) -> str:
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        lines = self.log_text().splitlines()[-25:]
        return "\n".join(["The end of its log:", *lines]) if lines else "It logged nothing here."

    def stop(self) -> None:
        """End the process, politely first."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def link(path: Path, target: Path) -> None:
    if path.is_symlink():
        path.unlink()
    path.symlink_to(target, target_is_directory=True)


@functools.cache
def has_accelerator(python: Path) -> bool:
    """True when that python's torch sees a GPU: CUDA's or ROCm's, Apple's, Intel's. Asking takes seconds."""
    try:
        return run([python, "-c", ACCELERATORS]).split()[-1:] == ["True"]
    except ToolError:  # starting the server says it better
        return False


def free_port(wanted: int | None = None) -> int:
    """The wanted port, or any, that nobody listens on. Raises ServerError when the wanted one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, wanted or 0))
        except OSError as error:
            raise ServerError(
                f"Port {wanted} cannot be used ({error.strerror}). Stop what uses it, or choose another one: PORT=8189."
            ) from error
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def server_arguments(front_end: str) -> list[str]:
    """Return the arguments that make ComfyUI serve this front end; the newer one is downloaded if it is missing."""
    if front_end == INSTALLED:
        return []
    if front_end != NEWER:
        raise ToolError(f"There is no front end {front_end!r} here. Choose one of: {INSTALLED}, {NEWER}.")
    cache = cache_folder()
    folder = cache / f"frontend-{NEWER}"
    with only_one(cache / "frontend.lock"):
        if not PAGE.is_at(folder):
            say(f"ComfyUI's page {NEWER} (29 MB, once)")
            PAGE.unpack(folder, Pip(Path(sys.executable), cache / "frontend.log"))
    return ["--front-end-root", str(folder)]


def end_on_terminate() -> None:
    """Let a SIGTERM unwind the stack, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def serve() -> None:
    """Serve in the foreground, with the page, until Ctrl-C. PORT names the port, FAMILY the stand-ins."""
    end_on_terminate()
    put_in_place(os.environ.get("FAMILY") or "sd15")
    base, port = cache_folder() / "serve", int(os.environ.get("PORT") or 8188)
    with ComfyServer(base=base, port=port, arguments=sys.argv[1:], quiet=False) as server:
        write_examples(base)  # what the shipped workflows load
        say(f"\nComfyUI with the pack: {server.url}\nCtrl-C ends it. Pictures go to {base / 'output'}.")
        if server.process.wait():
            raise ToolError("The server ended; its last lines above say why.")


if __name__ == "__main__":
    sys.exit(exit_code(serve))
