"""Results as tables in Markdown, and the machine that they are of."""

import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path

import comfyui_version
import psutil
import torch
from comfy.ldm.modules import attention


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
        numbers = {name: f"{n:,}" if isinstance(n, int) else f"{n:,.5g}" for name, n in self.values.items()}
        return [self.what, *(number + marks.get(name, "") for name, number in numbers.items())]


def environment() -> dict[str, str]:
    """The machine, which is a Linux, and the versions."""
    memory = psutil.virtual_memory().total / 2**30
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    processor = named[1] if named else platform.machine()
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {memory:.0f} GB",
        "ComfyUI": comfyui_version.__version__,
        "torch": f"{torch.__version__}, CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "attention": attention.optimized_attention.__name__,
    }


def table(results: list[Result]) -> list[str]:
    """Return a head and a row for each result, aligned."""
    head, *rows = ["", *results[0].values], *(result.cells() for result in results)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = ([one[0].ljust(widths[0]), *map(str.rjust, one[1:], widths[1:])] for one in (head, rule, *rows))
    return [f"| {' | '.join(one)} |" for one in aligned]
