"""Mutation testing of models/: mutmut changes one thing at a time, and tests/unit and tests/golden should notice.

    PYTHONPATH=tools python -m mutation                    every file, anew
    PYTHONPATH=tools python -m mutation layers guidance    the mutants of these files and folders once more

pyproject.toml says what is mutated and which tests run. What survived is written to output/mutation.md.

What survives and should: the same number or choice written otherwise (`x * 1`, 0 / 2 for 0 / 1), a device or dtype left
out where everything is float32 on the CPU, `strict=` of lists made with one length, sizes of pieces that only cost time
or memory, and words of messages, whose parts (names, numbers, what to do) alone are tested. Anything else wants a test.
"""

import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from comfyhost.environments import Environment
from comfyhost.install import clean_environment, exit_code, only_one, say
from comfyhost.packed_folders import remove
from comfyhost.places import REPO_ROOT, TOOLS, ToolError, cache_folder
from comfyhost.repository import copy_working_tree

MUTMUT = Environment("proofs", TOOLS / "requirements-proofs.txt")
FOLDER = cache_folder() / "mutation"
PACKAGE = "ipadapter_instruct"
REPORT = REPO_ROOT / "output" / "mutation.md"
NOTICED = ("killed", "timeout")


def main(files: list[str]) -> None:
    """Run mutmut on a copy of the repository, and write down what `report` says there."""
    python = MUTMUT.set_up(Path(sys.executable))
    # One thread, since the process that forks must have no other.
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": FOLDER / "mutants" / "tools"}
    run = partial(subprocess.run, cwd=FOLDER, env={**clean_environment(), **settings})
    with only_one(cache_folder() / "mutation.lock"):
        if not files:
            remove(FOLDER)
        lay_out()
        names = [f"{PACKAGE}.models.*{file}.*" for file in files]
        if run([python.with_name("mutmut"), "run", "--max-children", "2", *names]).returncode:
            raise ToolError(f"mutmut broke off in {FOLDER}; its words are above. Make the tests pass first.")
        REPORT.parent.mkdir(exist_ok=True)
        with REPORT.open("w", encoding="utf-8") as report:
            run([python, "-c", "import mutation; mutation.report()"], stdout=report, check=True)
    print(REPORT.read_text(encoding="utf-8").partition("\n\n")[0])
    say(f"Written to {REPORT}")


def lay_out() -> None:
    """Put a copy of the repository where mutmut looks for one, with models/ at the name that the tests import it by."""
    copy = FOLDER / "mutants"
    (copy / "models").unlink(missing_ok=True)
    copy_working_tree(copy)
    remove(copy / "models")
    (copy / "models").symlink_to(f"{PACKAGE}/models")
    shutil.copyfile(REPO_ROOT / "pyproject.toml", FOLDER / "pyproject.toml")
    if not (FOLDER / PACKAGE).is_symlink():
        (FOLDER / PACKAGE).symlink_to(REPO_ROOT)


def pytest_unconfigure(config) -> None:
    """Remove what a mutant's tests wrote, since mutmut's forks end without it. Every pytest calls this: a plugin."""
    shutil.rmtree(config._tmp_path_factory.getbasetemp(), ignore_errors=True)


def report() -> None:
    """Print how many mutants of each file came to what, and after that the mutants nobody noticed."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    counts, missed = {}, []
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, code in data.exit_code_by_key.items():
            if code is None:  # not run yet
                continue
            status = status_by_exit_code[code]
            if status not in NOTICED:
                difference = get_diff_for_mutant(mutant, path=path).splitlines()[3:]
                changed = [line for line in difference if line.startswith(("-", "+"))]
                if status == "survived" and changes_words_alone(changed):
                    status = "message text"
                else:
                    missed += ["", f"{mutant}: {status}", "", "```diff", *changed, "```"]
            counts.setdefault(path.relative_to(PACKAGE).as_posix(), Counter())[status] += 1
    every = sum(counts.values(), Counter())
    print("| file | mutants |", *(f" {status} |" for status in every), sep="")
    print("|---|---|", *("---|" for _ in every), sep="")
    for file, found in {"all": every, **counts}.items():
        print(f"| {file} | {found.total()} |", *(f" {found[status]} |" for status in every), sep="")
    print(*missed, sep="\n")


def changes_words_alone(changed: list[str]) -> bool:
    """Whether a mutant only spoils the words of a message: a text with a space in it, in capitals or between XX."""
    before, after = ("".join(line[1:] for line in changed if line[0] == sign) for sign in "-+")
    is_text = '"' in before and " " in before.partition('"')[2].rpartition('"')[0]
    return is_text and before.lower() == after.lower().replace("xx", "")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
