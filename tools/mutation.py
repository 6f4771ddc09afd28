"""Mutation testing of models/: mutmut changes one thing at a time, and tests/unit and tests/golden should notice.

    PYTHONPATH=tools python -m mutation                    every file, anew
    PYTHONPATH=tools python -m mutation layers guidance    these files' mutants once more, after a test was added

Run by the python of the tests. mutmut is installed into an environment of its own that sees that python's packages.
It works on a copy of the repository in the cache folder, in which models/ also has the name that the tests import it
by. The tests run in one process, from which each mutant is forked. What survived is written to output/mutation.md.

Not mutated: what needs ComfyUI (models/denoisers, patching, attention_maps, most of encoding and training) or
insightface (models/reference/face_analysis.py), which the tests in tests/host prove; code outside functions, and
functions with a decorator other than classmethod and staticmethod, which mutmut leaves alone.

What survives and should: the same number or choice written otherwise (`x * 1`, 0 / 2 for 0 / 1), a device or dtype left
out where everything is float32 on the CPU, `strict=` of lists made with one length, sizes of pieces that only cost time
or memory, and words of messages, whose parts (names, numbers, what to do) alone are tested. Anything else wants a test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from comfyhost.install import HOST_REQUIREMENTS, Pip, fingerprint, make_venv, only_one, runs, say
from comfyhost.manager import site_packages
from comfyhost.packed_folders import remove
from comfyhost.places import REPO_ROOT, TOOLS, ToolError, cache_folder, venv_python

REQUIREMENTS = TOOLS / "requirements-proofs.txt"
PACKAGE = "ipadapter_instruct"
MODELS = f"{PACKAGE}.models"
REPORT = REPO_ROOT / "output" / "mutation.md"
WITH_COMFYUI = (
    *("accelerator", "dataset", "frozen_base", "image_pairs", "initial_checkpoint", "job"),
    *("trainable_adapter", "trainer", "validation"),
)
ENCODING_WITH_COMFYUI = (
    *("embeds", "encode", "held_models", "image_encoder", "loaded_adapter", "pixels", "references"),
    *("text_encoder", "tokens"),
)
PROVED_ELSEWHERE = (
    "denoisers/*",
    "encoding/open_clip/*",
    *(f"encoding/{name}.py" for name in ENCODING_WITH_COMFYUI),
    "patching/*",
    "attention_maps/*",
    "reference/face_analysis.py",
    *(f"training/{name}.py" for name in WITH_COMFYUI),
)
STATUSES = {0: "survived", 1: "killed", 3: "killed", 24: "timeout", -24: "timeout", 33: "no test"}
COLUMNS = ("killed", "timeout", "survived", "message text", "no test", "other")
SHOWN = ("survived", "no test", "other")
OLD_SECONDS = 300
# The first three read the sources, which mutmut rewrites; the last runs a python that has no mutmut.
CONFIGURATION = f"""
[tool.mutmut]
source_paths = ["{PACKAGE}/models"]
do_not_mutate = [{", ".join(f'"{PACKAGE}/models/{pattern}"' for pattern in PROVED_ELSEWHERE)}]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
pytest_add_cli_args_test_selection = [
    "tests/unit",
    "tests/golden",
    "--ignore=tests/unit/test_imports.py",
    "--ignore=tests/unit/test_layout.py",
    "--deselect=tests/unit/test_security.py::test_no_source_can_run_code_start_programs_or_reach_the_network",
    "--deselect=tests/unit/test_download_command.py::test_another_python_than_comfyuis_is_told_apart",
]
timeout_multiplier = 5.0
timeout_constant = 2.0
track_dependencies = false
use_git_change_detection = false
"""
DIFFS = """
import json, sys
from pathlib import Path
from mutmut.mutation.diff_apply import get_diff_for_mutant
names = json.load(sys.stdin)
json.dump({name: get_diff_for_mutant(name, path=Path(path)) for name, path in names.items()}, sys.stdout)
"""


def main(arguments: list[str]) -> int:
    """Run the mutants, print how many of each file the tests noticed, and write down those that survived."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="names of files in models/, without .py; default: all, anew")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        python = set_up_mutmut()
        folder = cache_folder() / "mutation"
        with only_one(cache_folder() / "mutation.lock"):
            if not options.files:
                remove(folder)
            lay_out(folder)
            names = [f"{MODELS}.{file}.*" for file in options.files]
            mutmut(python, folder, "run", "--max-children", str(options.processes), *names)
            write_report(python, folder)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    return 0


def set_up_mutmut() -> Path:
    """The python that has mutmut beside the packages of the one that runs this; installs what is missing."""
    folder = cache_folder() / f"venv-proofs-{sys.version_info.major}.{sys.version_info.minor}"
    python = venv_python(folder)
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + fingerprint().encode()).hexdigest()
    stamp = folder / "installed.stamp"
    with only_one(cache_folder() / "proofs.lock"):
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and runs(python):
            return python
        say(f"Setting up mutmut in {folder} (details in proofs.log)")
        with open(cache_folder() / "proofs.log", "w", encoding="utf-8") as log:
            pip = Pip(python, log)
            make_venv(folder, pip)
            beside = site_packages(Path(sys.executable))
            (site_packages(python) / "tests.pth").write_text(f"{beside}\n", encoding="utf-8")
            pip("install", "-r", REQUIREMENTS, "-c", HOST_REQUIREMENTS)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def lay_out(folder: Path) -> None:
    """The repository as it is now, as mutmut wants it; files that did not change keep their time, and so their mutants.

    models/ lies where its path is the name that the tests import it by, and the tests find it by a link.
    """
    copy, package = folder / "mutants", folder / PACKAGE
    for name in repository_files():
        copy_changed(REPO_ROOT / name, (package if name.startswith("models/") else copy) / name)
    if not (copy / "models").is_symlink():
        (copy / "models").symlink_to(Path(PACKAGE) / "models")
    settings = (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8") + CONFIGURATION
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")


def repository_files() -> list[str]:
    """What git tracks and would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (REPO_ROOT / name).is_file()]


def copy_changed(source: Path, target: Path) -> None:
    if target.is_file() and target.read_bytes() == source.read_bytes():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def mutmut(python: Path, folder: Path, *arguments: str) -> None:
    """Run mutmut. One thread for torch: the process that forks must have no other.

    Temporary files have a folder of their own, since thousands of runs of pytest clear away after one another; and
    each leaves what it wrote, 27 GB of them, which is cleared away here.
    """
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TMPDIR": str(scratch)}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen([python.parent / "mutmut", *arguments], cwd=folder, env=environment)
    try:
        while process.poll() is None:
            time.sleep(10)
            remove_older(scratch, OLD_SECONDS)
    finally:
        process.kill()
        process.wait()
    remove(scratch)
    if process.returncode:
        raise ToolError(f"mutmut broke off in {folder}; what it said is above. The tests must pass before it can run.")


def remove_older(scratch: Path, seconds: float) -> None:
    """The folders of runs of pytest that began so long ago."""
    for run in scratch.glob("pytest-of-*/pytest-*"):
        if not run.is_symlink() and time.time() - run.stat().st_mtime > seconds:
            shutil.rmtree(run, ignore_errors=True)


def write_report(python: Path, folder: Path) -> None:
    """A table of all files on standard output; the table and the mutants nobody noticed in output/mutation.md."""
    found = dict(results(folder))
    status = {name: STATUSES.get(code, "other") for name, (_, code) in found.items()}
    missed = {name: path for name, (path, _) in found.items() if status[name] in SHOWN}
    diffs = read_diffs(python, folder, missed)
    for name in missed:
        if status[name] == "survived" and changes_words_alone(diffs[name]):
            status[name] = "message text"
    lines = table(status)
    print("\n".join(lines))
    for name in missed:
        if status[name] in SHOWN:
            lines += ["", f"{name}: {status[name]}", "", "```diff", *changed_lines(diffs[name]), "```"]
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"Written to {REPORT}")


def results(folder: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """Each mutant that was run: its name, its file, and how its tests ended."""
    for path in sorted((folder / "mutants" / PACKAGE).glob("models/**/*.meta")):
        source = path.relative_to(folder / "mutants").as_posix().removesuffix(".meta")
        for name, code in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            if code is not None:
                yield name, (source, code)


def read_diffs(python: Path, folder: Path, mutants: dict[str, str]) -> dict[str, str]:
    asked = subprocess.run(
        [python, "-c", DIFFS], input=json.dumps(mutants), cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(asked.stdout)


def changed_lines(diff: str) -> list[str]:
    """The lines of a diff that begin with - or +, without the names of the files."""
    return [line for line in diff.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]


def changes_words_alone(diff: str) -> bool:
    """Whether a mutant only spoils the words of a message: a text with a space in it, in capitals or between XX."""
    lines = changed_lines(diff)
    before, after = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    is_text = '"' in before and " " in before.partition('"')[2].rpartition('"')[0]
    return is_text and before.lower() == after.lower().replace("xx", "")


def table(status: dict[str, str]) -> list[str]:
    """Mutants by file and by what became of them."""
    files: dict[str, Counter] = {}
    for name, found in status.items():
        files.setdefault(name.removeprefix(f"{MODELS}.").rpartition(".")[0], Counter())[found] += 1
    files["all"] = sum(files.values(), Counter())
    lines = [f"| file | mutants | {' | '.join(COLUMNS)} |", f"|---{'|---' * (len(COLUMNS) + 1)}|"]
    for file, counts in files.items():
        lines.append(f"| {file} | {counts.total()} | {' | '.join(str(counts[column]) for column in COLUMNS)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
