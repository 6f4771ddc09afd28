"""Results as tables, on the terminal as in Markdown, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import comfyui_version
import torch
from comfy.ldm.modules import attention

PROMISES = "Promised values are marked =, or ! when not met."


@dataclass(frozen=True)
class Result:
    """A measurement: what it was of, the values by name, those that are promised, and the most that others may be."""

    what: str
    values: dict[str, float]
    promised: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)

    @property
    def broken(self) -> dict[str, str]:
        """Return the promises that are not kept, in words."""
        values = self.values
        unequal = {name: f"promised {value:,}" for name, value in self.promised.items() if values[name] != value}
        too_much = {name: f"promised at most {value:,}" for name, value in self.most.items() if values[name] > value}
        return {name: f"{name} is {values[name]:,}, {words}" for name, words in {**unequal, **too_much}.items()}

    def cells(self) -> list[str]:
        """Return the row of a table, with = behind a promise that is kept, and ! behind one that is not."""
        marks = {**dict.fromkeys([*self.promised, *self.most], "="), **dict.fromkeys(self.broken, "!")}
        numbers = {
            name: f"{value:,}" if isinstance(value, int) else f"{value:,.5g}" for name, value in self.values.items()
        }
        return [self.what, *(number + marks.get(name, "") for name, number in numbers.items())]


def environment() -> dict[str, str]:
    """The machine, which is a Linux, and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    processor = named[1] if named else platform.machine()
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {memory / 2**30:.0f} GB",
        "ComfyUI": comfyui_version.__version__,
        "torch": f"{torch.__version__}, CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "attention": attention.optimized_attention.__name__,
    }


class Report:
    """A report in Markdown that is printed as it grows, and written at the end, as JSON too."""

    def __init__(self):
        self.environment = environment()
        self.topics: list[tuple[str, list[Result]]] = []
        self.lines: list[str] = []
        self.say("# What the pack costs", "", *(f"- {name}: {value}" for name, value in self.environment.items()))
        self.say("", PROMISES)

    def say(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)

    def add(self, title: str, results: list[Result]) -> None:
        self.topics.append((title, results))
        self.say("", f"## {title}", "", *table(results))

    @property
    def broken(self) -> list[str]:
        topics = [(title, result) for title, results in self.topics for result in results]
        return [f"{title}, {result.what}: {words}" for title, result in topics for words in result.broken.values()]

    def write(self, folder: Path) -> None:
        """Write bench.md and bench.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.md").write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        topics = [{"topic": title, "results": [asdict(one) for one in results]} for title, results in self.topics]
        whole = {"environment": self.environment, "topics": topics, "broken": self.broken}
        (folder / "bench.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def table(results: list[Result]) -> list[str]:
    """Return a head and a row for each result, aligned."""
    head, *rows = ["", *results[0].values], *(result.cells() for result in results)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = ([one[0].ljust(widths[0]), *map(str.rjust, one[1:], widths[1:])] for one in (head, rule, *rows))
    return [f"| {' | '.join(one)} |" for one in aligned]
