"""Find a Chromium for the tests that use ComfyUI's page, or install one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from comfyhost.install import clean_environment, only_one, say
from comfyhost.places import ToolError, cache_folder

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-noto-cjk")  # the fonts for Chinese, Japanese and Korean texts
ARGUMENTS = (
    "--no-sandbox",  # which root, as in a container, cannot have
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    # The tests are about the pages of our own server: nothing else is there, whatever the network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
START_TIMEOUT = 60
INSTALL_TIMEOUT = 900
OUTPUT_TAIL = 800


@contextmanager
def chromium() -> Iterator[Browser]:
    """A started, headless Chromium; one is installed when there is none."""
    with sync_playwright() as playwright:
        path = find_or_install(playwright.chromium.executable_path)
        with playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS)) as browser:
            yield browser


def find_or_install(playwrights: str = "") -> Path:
    """A Chromium that starts. Raises ToolError when there is none and none can be installed.

    `playwrights` is where `playwright install` puts its own.
    """
    found = find(playwrights)
    if found:
        return found
    with only_one(cache_folder() / "browser.lock"):
        return find(playwrights) or install(playwrights)


def find(playwrights: str = "") -> Path | None:
    """The Chromium that CHROMIUM names, else the first that starts: on PATH, then Playwright's own."""
    named = os.environ.get("CHROMIUM")
    if named and not starts(Path(named).expanduser()):
        raise ToolError(
            f"CHROMIUM should name a Chromium or Chrome, but {named} does not start. "
            "Set it to the full path of one, or unset it to have one found."
        )
    if named:
        return Path(named).expanduser()
    candidates = (*map(shutil.which, NAMES), playwrights)
    return next((Path(path) for path in candidates if path and starts(Path(path))), None)


def starts(path: Path) -> bool:
    """True when it runs. Ubuntu's chromium package is a script that asks for a snap, which containers do not have."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=START_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install(playwrights: str) -> Path:
    """Install a Chromium by the first way that gives one which starts."""
    said = []
    for way in ways():
        say(f"No Chromium was found; installing one: {way[-1]}")
        said.append(attempt(way))
        found = find(playwrights)
        if found:
            return found
    wrong = "The browser tests need a Chromium, none was found, and none could be installed:"
    remedy = f"Install one (Debian: apt-get install {' '.join(PACKAGES)}), or set CHROMIUM to the path of one."
    raise ToolError("\n".join([wrong, *said, remedy]))


def ways() -> list[list[str]]:
    """The commands that may install one on this machine, each for a subprocess, the likeliest first."""
    playwright = [sys.executable, "-m", "playwright", "install"]
    if shutil.which("apt-get") and os.geteuid() == 0:
        return [by_apt([]), [*playwright, "--with-deps", "chromium"]]
    if shutil.which("apt-get") and shutil.which("sudo"):
        return [by_apt(["sudo", "-n"]), [*playwright, "chromium"]]
    return [[*playwright, "chromium"]]


def by_apt(prefix: list[str]) -> list[str]:
    """Return a command for Debian's packages, by a shell, since the lists come first."""
    apt = " ".join([*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
    return ["sh", "-c", f"{apt} update && {apt} install -y --no-install-recommends {' '.join(PACKAGES)}"]


def attempt(command: list[str]) -> str:
    """Run a command and return what it said at its end, for the case that no Chromium came of it."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    how = {"timeout": INSTALL_TIMEOUT, "env": clean_environment(), "text": True, "errors": "replace"}
    try:
        said = subprocess.run(command, **streams, **how).stdout.strip()[-OUTPUT_TAIL:]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    return f"$ {' '.join(command)}\n{said}"
