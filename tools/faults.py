"""Plant faults in the pack, one at a time, and see which tier of the tests notices each.

    PYTHONPATH=tools python -m faults                  all of tools/faults.toml
    PYTHONPATH=tools python -m faults guidance js      those of these rooms

A fault is a replacement in one file. It is looked for in the tests of the quick tier: first in those that the fault
names, and then in all. What was found is written to output/faults.md.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from comfyhost.install import clean_environment, exit_code, say
from comfyhost.places import REPO_ROOT, TOOLS, ToolError
from comfyhost.repository import copy_working_tree

FAULTS, REPORT = TOOLS / "faults.toml", REPO_ROOT / "output" / "faults.md"
AT_ONCE = 2
TEST = (sys.executable, "tools/run_tests.py", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", "--tier", "quick")
CHECK, QUICK = ("make check", "make test")
ENOUGH = 0.95


@dataclass(frozen=True)
class Fault:
    """A replacement of `find`, which the file has once. look: the tests that should see it, as pytest takes them."""

    room: str
    what: str
    file: str
    find: str
    replace: str
    look: Sequence[str] = ()

    def plant(self, folder: Path) -> None:
        """Change the file in a copy of the repository."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.find) != 1:
            raise ToolError(
                f"{self.file} was expected to have {self.find!r} once; it has it {text.count(self.find)} times."
            )
        path.write_text(text.replace(self.find, self.replace), encoding="utf-8")


def main(rooms: Sequence[str]) -> None:
    """Plant the faults of these rooms, or all. Raises ToolError when `make test` sees fewer than 95 of 100."""
    import tomllib  # not in Python 3.10, which runs the pack

    faults = [Fault(**entry) for entry in tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"]]
    known = dict.fromkeys(fault.room for fault in faults)
    if unknown := [room for room in rooms if room not in known]:
        raise ToolError(f"Rooms among {', '.join(known)} were expected; {', '.join(unknown)} is none. Name one.")
    chosen = [fault for fault in faults if not rooms or fault.room in rooms]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tests = list(pool.map(first_to_see, chosen))
    tiers = [(CHECK if test.startswith("tests/unit/") else QUICK) if test else "**none**" for test in tests]
    rows = [f"| {f.room} | {f.what} | {tier} | {test} |" for f, tier, test in zip(chosen, tiers, tests, strict=True)]
    REPORT.parent.mkdir(exist_ok=True)
    head = ["| room | fault | seen by | first |", "|---|---|---|---|"]
    REPORT.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")
    noticed = sum(map(bool, tests))
    say(f"{QUICK} sees {noticed} of {len(chosen)}, {CHECK} {tiers.count(CHECK)} of them. {REPORT} lists them.")
    if noticed < ENOUGH * len(chosen):
        raise ToolError(f"{QUICK} was expected to see {ENOUGH:.0%} of the faults. Add tests for the others.")


def first_to_see(fault: Fault) -> str:
    """The first test of the quick tier that sees the fault; empty where none does."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy_working_tree(Path(folder))
        fault.plant(Path(folder))
        # In the tests that it names; where none of them sees it, in all.
        found = first_failure(folder, fault.look) or first_failure(folder, ())
    say(f"{fault.room}: {fault.what}: {found or 'NOT SEEN'} ({time.monotonic() - start:.0f} s)")
    return found


def first_failure(folder: str, tests: Sequence[str]) -> str:
    """The first test that fails, or cannot be collected; empty when all pass."""
    done = subprocess.run([*TEST, *tests], cwd=folder, env=clean_environment(), capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode and not failed:
        raise ToolError(f"The tests {' '.join(tests)} could not be run:\n{(done.stdout + done.stderr)[-1000:]}")
    return failed[0].split(" ")[1] if failed else ""


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
