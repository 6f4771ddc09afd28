"""`make gpu`, rehearsed on the CPU: every part, from the archive that a bare machine gets; and what stops a part.

The rehearsal runs in an environment that has torch and what torch requires, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from importlib import metadata
from pathlib import Path

import gpu
import pytest
from comfyhost.places import TOOLS, host
from gpu_parts import bundle
from gpu_parts.parts import NAMES, WAYS
from support import imported_comfyui  # noqa: F401
from support.patience import PATIENCE

SCRIPT, TESTS = TOOLS / "gpu.py", TOOLS.parent / "tests"
REHEARSED = ("right.fp8", "small", "teaching")
BASES = ("SD1.5", "SDXL", "SD3")


def run(*arguments: str, python: str | Path = sys.executable, script: Path = SCRIPT, comfyui: Path | None = None):
    """Run the script where torch finds no graphics card; return its exit status, its output and its errors."""
    command = [str(python), str(script), "--comfyui", str(comfyui or host().comfyui), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


def results_in(folder: Path) -> list[dict]:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["results"]


def bare_python(folder: Path) -> Path:
    """A python that has torch, torchvision and torchaudio, with what they require."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for package in bundle.with_requirements(bundle.TORCHS):
        for path in {file.parts[0] for file in metadata.files(package) or () if file.parts[0] != ".."}:
            source = Path(str(metadata.distribution(package).locate_file(path)))
            if source.exists() and not (site / path).exists():
                (site / path).symlink_to(source)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The exit status and the folder of the results of a rehearsal on a bare machine."""
    folder = tmp_path_factory.mktemp("bare")
    bundle.write(folder / "gpu.tar.xz", host().comfyui)
    with tarfile.open(folder / "gpu.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "gpu.tar.xz").unlink()
    there = {"script": folder / "gpu/pack/tools/gpu.py", "comfyui": folder / "gpu/ComfyUI"}
    options = ("--rehearse", "--parts", ",".join(REHEARSED), "--seconds", "800", "--output", str(folder / "output"))
    status, said, errors = run(*options, python=bare_python(folder / "python"), **there)
    print(said, errors)
    return status, folder / "output"


def test_it_ends_well_from_an_archive_of_less_than_60_mb_on_a_machine_that_has_torch_alone(rehearsal):
    status, folder = rehearsal
    assert [one for one in results_in(folder) if "figure" not in one] == []
    assert status == 0


@pytest.mark.parametrize("part", REHEARSED)
def test_each_part_is_rehearsed_for_every_base_model(rehearsal, part):
    own = [one["what"] for one in results_in(rehearsal[1]) if one["part"] == part]
    assert own
    for base in BASES if "right" not in part else ():
        assert any(base in what for what in own)


def test_the_laws_are_run_and_hold_in_the_precision_of_the_part(rehearsal):
    [result] = [one for one in results_in(rehearsal[1]) if one["part"] == "right.fp8"]
    assert result["values"]["passed"] >= 25 and "failed" not in result["values"]


def test_every_result_is_a_row_for_the_page_of_measurements(rehearsal):
    page = (rehearsal[1] / "gpu.md").read_text(encoding="utf-8")
    assert "no figures of a card" in page.splitlines()[0]
    for one in results_in(rehearsal[1]):
        assert f"| {one['what']} | `make gpu` | {one['figure']} |" in page


def test_a_measurement_that_fails_keeps_the_others(tmp_path):
    missing = str(tmp_path / "no such pack")
    options = ("--rehearse", "--parts", "fast", "--incumbent", missing, "--output", str(tmp_path), "--seconds", "300")
    status, said, _ = run(*options)
    errors = [one["what"] for one in results_in(tmp_path) if "error" in one]
    assert status == 1 and errors == ["steps of SD1.5", "steps of SDXL"] and "no such pack" in said
    assert sum("figure" in one and "SD3" in one["what"] for one in results_in(tmp_path)) == 3


def test_nothing_of_a_step_is_left_on_the_cpu_where_the_card_is_another_device(tmp_path):
    """The part that has most of the other parts' models runs on the device that the CPU plays."""
    search, path = os.pathsep.join(map(str, (TOOLS, TESTS))), tmp_path / "results"
    command = [sys.executable, "-m", "support.devices.played_card", "fast", str(path)]
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    results = [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]
    assert [one for one in results if "figure" not in one] == [] and len(results) == 3 * len(BASES)


def test_parts_for_which_no_time_is_left_are_named(tmp_path):
    begin = time.monotonic()
    status, _, _ = run("--rehearse", "--seconds", "1", "--output", str(tmp_path))
    skipped = {one["part"]: one["skipped"] for one in results_in(tmp_path)}
    assert status == 0 and skipped.keys() == set(NAMES) and time.monotonic() - begin < 60
    assert "seconds were left" in skipped["fast"] and "graphics card" in skipped["right.low-vram"]


@pytest.mark.parametrize("part", ["right.fp16", "small"])
def test_a_part_whose_time_is_over_says_so_and_ends(tmp_path, part):
    path = tmp_path / "results"
    command = [sys.executable, "-m", "gpu_parts", part, "--rehearse", "--results", str(path), "--seconds", "0"]
    done = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, timeout=PATIENCE)
    results = [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]
    assert done.returncode == 0, done.stderr
    assert results[-1]["skipped"] == "this part's time was over" and all("error" not in one for one in results)


def test_a_process_that_breaks_or_hangs_is_told_from_one_that_ends_well(tmp_path):
    def ended(script: str, seconds: float = 60) -> str:
        return gpu.wait([sys.executable, "-c", script], tmp_path / "log", seconds)

    assert ended("print('fine')") == ""
    assert ended("raise SystemExit(3)") == "It ended with 3."
    assert ended("import os; os.abort()") == "It ended with -6."
    assert ended("import time; time.sleep(100)", 1) == "It was stopped after 1 seconds."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "A graphics card was expected; torch"),
        (("--rehearse", "--parts", "slow"), "--parts was expected to name some of right, right.fp32"),
        (("--rehearse", "--comfyui", "/nowhere"), "/nowhere holds no main.py"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(tmp_path, arguments, words):
    status, _, errors = run(*arguments, "--output", str(tmp_path))
    assert status == 1 and errors.startswith("error: ") and words in errors
    assert not any(tmp_path.iterdir())


def test_all_tests_that_the_ways_name_are_there():
    root = TOOLS.parent
    assert all((root / path).exists() for way in WAYS.values() for path in way.tests)


def event(cat: str, name: str, ts: float, dur: float, **args) -> dict:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 7, "args": args}


def test_kernels_gaps_and_waits_are_those_that_the_attentions_launched():
    from gpu_parts.kernels import MARK, summed

    events = [
        {"ph": "M", "name": "process_name"},
        *(event("user_annotation", MARK, start, 50) for start in (100, 300)),
        event("gpu_user_annotation", MARK, 500, 90),
        *(event("cuda_runtime", "cudaLaunchKernel", ts, 5, correlation=n) for n, ts in enumerate((10, 110, 120, 310))),
        event("cuda_runtime", "cudaStreamSynchronize", 320, 5, correlation=9),
        event("kernel", "before", 400, 10, correlation=0),
        event("kernel", "scores", 500, 20, correlation=1),
        event("kernel", "values", 525, 10, correlation=2),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 580, 10, correlation=3),
    ]
    found = summed(events)
    assert found == {"attentions": 2, "kernels": 3, "kernel us": 40, "gap us": 5, "CPU us": 100, "waits": 2}
