"""Find a Chromium for the tests that use ComfyUI's page, or install one."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from comfyhost.install import only_one, run, runs, say
from comfyhost.places import ToolError, cache_folder

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-noto-cjk")  # the fonts for Chinese, Japanese and Korean texts
# The tests are about the pages of our own server: nothing else is there, whatever the network.
ARGUMENTS = ["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A started, headless Chromium; one is installed when there is none."""
    with sync_playwright() as playwright:
        path = find_or_install(playwright.chromium.executable_path)
        with playwright.chromium.launch(executable_path=path, args=ARGUMENTS) as browser:
            yield browser


def find_or_install(playwrights: str = "") -> Path:
    """A Chromium that starts, installed if need be. `playwrights` is where `playwright install` puts its own."""
    with only_one(cache_folder() / "browser.lock"):
        return find(playwrights) or install(playwrights)


def find(playwrights: str = "") -> Path | None:
    """The Chromium that CHROMIUM names, else the first that starts: on PATH, then Playwright's own."""
    named = os.environ.get("CHROMIUM")
    candidates = [os.path.expanduser(named)] if named else [*map(shutil.which, NAMES), playwrights]
    # Ubuntu's chromium package is a script that asks for a snap, which containers do not have.
    found = next((Path(path) for path in candidates if path and runs(path, "--version")), None)
    if named and not found:
        raise ToolError(
            f"CHROMIUM should name a Chromium or Chrome, but {named} does not start. "
            "Set it to the full path of one, or unset it to have one found."
        )
    return found


def install(playwrights: str) -> Path:
    """Install a Chromium by the first way that gives one which starts."""
    said = []
    for way in ways():
        say(f"No Chromium was found; installing one: {way[-1]}")
        try:
            said.append(run(way, timeout=900)[-800:])
        except ToolError as error:
            said.append(str(error))
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
