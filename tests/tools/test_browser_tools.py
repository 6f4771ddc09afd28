"""Finding and installing a browser, and unpacking a front end: the decisions, with stand-ins for the programs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from comfyhost import browser, server
from comfyhost.places import ToolError

STARTS = "#!/bin/sh\necho Chromium 1\n"
ASKS_FOR_A_SNAP = "#!/bin/sh\nexit 1\n"


def program(path: Path, script: str = STARTS) -> Path:
    """A program that does what the script says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def programs(monkeypatch, tmp_path) -> Path:
    """The only folder on PATH, with nothing but a shell and env; Playwright has no browser of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("IPADAPTER_INSTRUCT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHROMIUM", raising=False)
    return folder


def as_user(monkeypatch, number: int) -> None:
    monkeypatch.setattr("os.geteuid", lambda: number)


def test_the_chromium_that_the_environment_names_is_taken_first(monkeypatch, programs, tmp_path):
    program(programs / "chromium")
    own = program(tmp_path / "own" / "chrome")
    monkeypatch.setenv("CHROMIUM", str(own))
    assert browser.find() == own


def test_a_named_chromium_that_does_not_start_is_refused(monkeypatch, programs, tmp_path):
    program(programs / "chromium")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    with pytest.raises(ToolError, match="CHROMIUM.*nowhere does not start.*unset it"):
        browser.find_or_install()


def test_a_program_that_only_asks_for_a_snap_is_passed_over(programs):
    program(programs / "chromium", ASKS_FOR_A_SNAP)
    chrome = program(programs / "google-chrome")
    assert browser.find() == chrome


def test_nothing_on_path_and_nothing_of_playwrights_is_nothing():
    assert browser.find() is None


def test_root_installs_debians_packages_with_the_fonts(monkeypatch, programs, tmp_path):
    as_user(monkeypatch, 0)
    said = tmp_path / "said"
    installer = f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {said}\n'
    made = programs / "chromium"
    program(
        programs / "apt-get", f'{installer}[ "$1" = update ] || {{ echo "{STARTS}" > {made}; /bin/chmod +x {made}; }}\n'
    )
    assert browser.find_or_install() == made
    assert said.read_text().splitlines() == [
        "noninteractive update",
        "noninteractive install -y --no-install-recommends chromium fonts-noto-cjk",
    ]


def test_another_user_installs_by_sudo_without_a_password_and_else_by_playwright(monkeypatch, programs):
    as_user(monkeypatch, 1000)
    program(programs / "apt-get")
    assert [way[-2:] for way in browser.ways()] == [["install", "chromium"]]
    program(programs / "sudo")
    by_sudo, by_playwright = browser.ways()
    assert by_sudo[-1].startswith("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get update && sudo -n env")
    assert by_playwright[-2:] == ["install", "chromium"]


def test_when_nothing_helps_the_message_says_what_was_tried_and_what_to_do(monkeypatch, programs):
    as_user(monkeypatch, 0)
    program(programs / "apt-get", "#!/bin/sh\necho Unable to fetch; exit 100\n")
    monkeypatch.setattr(browser, "ways", lambda: [browser.by_apt([])])
    with pytest.raises(ToolError) as refused:
        browser.find_or_install()
    message = str(refused.value)
    assert "need a Chromium" in message and "Unable to fetch" in message
    assert "apt-get install chromium fonts-noto-cjk" in message and "CHROMIUM" in message


def wheel(path: Path, names: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_a_front_end_is_unpacked_from_its_wheel(tmp_path):
    names = ("index.html", "assets/index.js")
    made = wheel(tmp_path / "front.whl", tuple(f"{server.PAGE.inside}{name}" for name in names))
    assert server.PAGE.is_at(server.PAGE.extract(made, tmp_path))


def test_a_wheel_without_a_front_end_is_refused(tmp_path):
    with pytest.raises(ToolError, match=r"front\.whl should hold ComfyUI's page.*no index\.html"):
        server.PAGE.extract(wheel(tmp_path / "front.whl", ("readme.txt",)), tmp_path)


def test_the_installed_front_end_needs_no_argument():
    assert server.server_arguments(server.INSTALLED) == []


def test_an_unknown_front_end_is_refused():
    with pytest.raises(ToolError, match=r"no front end '9\.9\.9'.*installed, 1\.58\.1"):
        server.server_arguments("9.9.9")


def test_the_newer_front_end_is_the_one_that_the_wheel_file_pins():
    pinned = server.PAGE.wheel.read_text(encoding="utf-8")
    assert f"comfyui-frontend-package=={server.NEWER} --hash=sha256:" in pinned
