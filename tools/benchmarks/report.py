"""Results as tables or JSON lines."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import comfyui_version
import torch
from comfy.ldm.modules import attention


@dataclass(frozen=True)
class Result:
    """What was measured, the values by name, and those of them that are promised."""

    what: str
    values: dict[str, float]
    promised: dict[str, float] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """In words, the promises that are not kept."""
        return [
            f"{name} is {self.values[name]:,}, promised {value:,}"
            for name, value in self.promised.items()
            if self.values[name] != value
        ]


@dataclass(frozen=True)
class Topic:
    title: str
    measure: Callable[[], Iterable[Result]]


def environment() -> str:
    return (
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, python {platform.python_version()}, CPU, "
        f"{torch.get_num_threads()} threads, {attention.optimized_attention.__name__}. "
        "Promised values are marked =, or ! when not met."
    )


def print_json(title: str, results: list[Result]) -> None:
    for result in results:
        line = {"topic": title, "what": result.what, "values": result.values, "promised": result.promised}
        print(json.dumps({**line, "broken": result.broken}), flush=True)


def print_table(title: str, results: list[Result]) -> None:
    names = list(results[0].values)
    rows = [[result.what, *(cell(result, name) for name in names)] for result in results]
    widths = [max(len(line[column]) for line in [["", *names], *rows]) for column in range(len(names) + 1)]
    print(f"\n{title}")
    for line in [["", *names], *rows]:
        print("  " + "   ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]), flush=True)


def cell(result: Result, name: str) -> str:
    value = result.values[name]
    mark = "" if name not in result.promised else "=" if value == result.promised[name] else "!"
    return f"{value:,}{mark}" if isinstance(value, int) else f"{value:,.5g}{mark}"
