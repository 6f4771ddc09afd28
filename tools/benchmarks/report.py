"""Results as tables on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable
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
    def broken(self) -> list[str]:
        """Return in words the promises that are not kept."""
        return [
            f"{name} is {self.values[name]:,}, promised {value:,}"
            for name, value in self.promised.items()
            if self.values[name] != value
        ] + [
            f"{name} is {self.values[name]:,}, promised at most {value:,}"
            for name, value in self.most.items()
            if self.values[name] > value
        ]

    def mark(self, name: str) -> str:
        """Return = for a promise that is kept, ! for one that is not."""
        if name in self.promised:
            return "=" if self.values[name] == self.promised[name] else "!"
        return "" if name not in self.most else "=" if self.values[name] <= self.most[name] else "!"


@dataclass(frozen=True)
class Topic:
    title: str
    measure: Callable[[], Iterable[Result]]


def environment() -> dict[str, str]:
    """The machine and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {memory / 2**30:.0f} GB",
        "ComfyUI": comfyui_version.__version__,
        "torch": f"{torch.__version__}, CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "attention": attention.optimized_attention.__name__,
    }


def processor() -> str:
    """Return the processor's name, which Linux knows best."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


class Report:
    """A report that is printed as it grows, and written at the end as Markdown and as JSON."""

    def __init__(self):
        self.environment = environment()
        self.topics: list[tuple[str, list[Result]]] = []

    def add(self, title: str, results: list[Result]) -> None:
        self.topics.append((title, results))
        print("\n".join(["", title, *aligned(results)]), flush=True)

    @property
    def broken(self) -> list[str]:
        return [
            f"{title}, {result.what}: {words}"
            for title, results in self.topics
            for result in results
            for words in result.broken
        ]

    def write(self, folder: Path) -> None:
        """Write bench.md and bench.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.md").write_text("\n".join(self.markdown()) + "\n", encoding="utf-8")
        topics = [{"topic": title, "results": [asdict(one) for one in results]} for title, results in self.topics]
        whole = {"environment": self.environment, "topics": topics, "broken": self.broken}
        (folder / "bench.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    def markdown(self) -> list[str]:
        lines = ["# What the pack costs", ""]
        lines += [f"- {name}: {value}" for name, value in self.environment.items()]
        lines += ["", PROMISES]
        for title, results in self.topics:
            head, *rows = cells(results)
            lines += ["", f"## {title}", "", row(head), row(["---", *["---:"] * (len(head) - 1)]), *map(row, rows)]
        return lines


def row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def aligned(results: list[Result]) -> list[str]:
    rows = cells(results)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "   ".join([one[0].ljust(widths[0]), *map(str.rjust, one[1:], widths[1:])]) for one in rows]


def cells(results: list[Result]) -> list[list[str]]:
    """A head and a row for each result."""
    names = list(results[0].values)
    return [["", *names], *([result.what, *(cell(result, name) for name in names)] for result in results)]


def cell(result: Result, name: str) -> str:
    value = result.values[name]
    return (f"{value:,}" if isinstance(value, int) else f"{value:,.5g}") + result.mark(name)
