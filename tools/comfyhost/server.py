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

from comfyhost.install import clean_environment, say
from comfyhost.photo import write_examples
from comfyhost.places import PACK_FOLDER, REPO_ROOT, Host, ToolError, cache_folder, host
from comfyhost.standins import put_in_place

ADDRESS = "127.0.0.1"
ALWAYS = ("--disable-auto-launch", "--preview-method", "none", "--disable-api-nodes")
PORT_TAKEN = ("address already in use", "Errno 98", "Errno 48")
PORT_TRIES = 3
LOG_TAIL = 25
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # torch's idle threads spin otherwise, and others wait for the core
ACCELERATORS = """
import torch
kinds = (torch.cuda, torch.backends.mps, getattr(torch, "xpu", None))
print(any(kind is not None and kind.is_available() for kind in kinds))
"""
POLL_SECONDS = 0.2


class ServerError(ToolError):
    """The server did not start, or went away; the message ends with its log's last lines."""


@dataclass
class ComfyServer:
    """A running ComfyUI, as a context manager.

    `comfyui` None is the one in use. `base` receives its custom_nodes, input, output, temp and user folders and a link
    to the models; None is a temporary folder, removed at the end. `port` None is a free one. `arguments` and
    `environment` are added to the command's own. With `quiet` False the log goes to the terminal instead of the file
    `log`. `pack` is its only custom node pack; None leaves `base` as it is.
    It runs on the CPU, but a user's own ComfyUI on whatever its torch finds.
    """

    comfyui: Host | None = None
    base: Path | None = None
    port: int | None = None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 240
    quiet: bool = True
    pack: Path | None = REPO_ROOT

    def __post_init__(self):
        self.comfyui = self.comfyui or host()
        self.environment = {**ENVIRONMENT, **clean_environment(), **self.environment}
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}"

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    def __enter__(self) -> ComfyServer:
        with ExitStack() as stack:
            if self.base is None:
                temporary = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
                self.base = Path(stack.enter_context(temporary))
            stack.callback(self.stop)
            if self.pack:
                prepare_base(self.base, self.comfyui.models, self.pack)
            self.start()
            self.closing = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.closing.close()

    def start(self) -> None:
        """Start on a free port and wait for an answer; another port when somebody took it in between."""
        wanted = self.port
        for attempt in range(1, PORT_TRIES + 1):
            self.port = free_port(wanted)
            self.launch()
            try:
                return self.wait_for_answer()
            except ServerError:
                self.stop()
                if wanted or attempt == PORT_TRIES or not self.port_was_taken():
                    raise

    def launch(self) -> None:
        """Start the process. It stays in our process group, so that Ctrl-C reaches it too."""
        with open(self.log, "wb") as log:
            streams = {"stdout": log, "stderr": log} if self.quiet else {}
            try:
                self.process = subprocess.Popen(self.command(), cwd=self.base, env=self.environment, **streams)
            except OSError as error:
                why = f"{self.comfyui.python} could not be started ({error.strerror}). Run `make setup` first."
                raise ServerError(why) from error

    def command(self) -> list[str]:
        """The command line."""
        main = [str(self.comfyui.python), str(self.comfyui.comfyui / "main.py")]
        listen = ["--listen", ADDRESS, "--port", str(self.port)]
        database = f"sqlite:///{self.base / 'user' / 'comfyui.db'}"
        places = ["--base-directory", str(self.base), "--database-url", database]
        return [*main, *device(self.comfyui), *ALWAYS, *listen, *places, *self.arguments]

    def wait_for_answer(self) -> None:
        """Return when the server answers; raise ServerError when it ends first or takes too long."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            self.check_alive()
            if answers(f"{self.url}/system_stats"):
                return
            time.sleep(POLL_SECONDS)
        raise ServerError(
            f"ComfyUI did not answer on {self.url} within {self.timeout:.0f} s. {self.log_tail()}\n"
            "Is the machine busy, or a custom node waiting for something? The last lines above should tell."
        )

    def check_alive(self) -> None:
        """Raise ServerError when the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise ServerError(
                f"ComfyUI ended with exit code {code}. {self.log_tail()}\n"
                "If a module is missing: run `make setup` again, or install it when COMFYUI_PATH is set."
            )

    def port_was_taken(self) -> bool:
        return any(sign in self.log_text() for sign in PORT_TAKEN)

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def log_tail(self) -> str:
        lines = self.log_text().splitlines()[-LOG_TAIL:]
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


def prepare_base(base: Path, models: Path, pack: Path) -> None:
    """The folders of a server; its custom_nodes holds the pack and nothing else."""
    for name in ("custom_nodes", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link(base / "custom_nodes" / PACK_FOLDER, pack)
    link(base / "models", models)


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`."""
    if path.is_symlink():
        path.unlink()
    path.symlink_to(target, target_is_directory=True)


def device(comfyui: Host) -> list[str]:
    """Return --cpu, except for a user's own ComfyUI whose torch has something faster; then ComfyUI chooses."""
    return [] if comfyui.users_own and has_accelerator(comfyui.python) else ["--cpu"]


@functools.cache
def has_accelerator(python: Path) -> bool:
    """True when that python's torch sees a GPU: CUDA's or ROCm's, Apple's, Intel's. Asking takes seconds."""
    try:
        asked = subprocess.run([python, "-c", ACCELERATORS], capture_output=True, text=True, env=clean_environment())
    except OSError:  # starting the server says it better
        return False
    return asked.stdout.split()[-1:] == ["True"]


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
    """True when there is an HTTP server that says OK."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def end_on_terminate() -> None:
    """Let a SIGTERM unwind the stack, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def main() -> int:
    """Serve in the foreground, with the page, until Ctrl-C. PORT names the port, FAMILY the stand-ins."""
    end_on_terminate()
    try:
        put_in_place(os.environ.get("FAMILY") or "sd15")
        base = cache_folder() / "serve"
        port = int(os.environ.get("PORT") or 8188)
        with ComfyServer(base=base, port=port, arguments=sys.argv[1:], quiet=False) as server:
            write_examples(base)  # what the shipped workflows load
            say(f"\nComfyUI with the pack: {server.url}\nCtrl-C ends it. Pictures go to {base / 'output'}.")
            return server.process.wait()
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
