"""The run of one part: what it is given, its time, and where its results go as soon as they are there."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from timeit import default_timer
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:  # it imports ComfyUI, whose arguments are not set yet
    from benchmarks.models import Base

LONGEST_ERROR = 500  # letters; the log has all of it


class OutOfTimeError(Exception):
    """A part has not enough time left for what was asked."""


@dataclass(frozen=True)
class Run:
    """A part's run.

    results: the file that gets a line of JSON for each result. end: by `default_timer`. rehearse: on the CPU with small
    models. incumbent: the folder of ComfyUI_IPAdapter_plus, or None.
    """

    part: str
    results: Path
    end: float
    rehearse: bool
    incumbent: Path | None = None

    def left(self) -> float:
        return self.end - default_timer()

    def check_time(self) -> None:
        """Raises OutOfTimeError when the part's time is over."""
        if self.left() <= 0:
            raise OutOfTimeError("this part's time was over")

    def emit(self, what: str, figure: str, **values) -> None:
        """Write a result: in words, and the numbers in full."""
        self._write(what=what, figure=figure, values=values)

    def verdict(self, target: str, met: bool) -> str:
        """Return in words whether what was meant to come out has."""
        return f"(target {target}: {'only rehearsed' if self.rehearse else 'met' if met else 'missed'})"

    @contextlib.contextmanager
    def kept(self, what: str) -> Iterator[None]:
        """Write what stops a measurement, so that the next one may go on, with what memory there is."""
        gc.collect()
        if self.on_card:
            torch.cuda.empty_cache()
        try:
            yield
        except OutOfTimeError as error:
            self._write(what=what, skipped=str(error))
        except torch.cuda.OutOfMemoryError:
            self._write(what=what, skipped="the card's memory is too small for it")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._write(what=what, error=f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST_ERROR])

    def each(self, what: str, bases: Sequence[Base], measure: Callable[[Run, Base, float], None]) -> None:
        """Measure one base model after another, each until its even share of the time that is left is over."""
        for number, base in enumerate(bases):
            with self.kept(f"{what} {base.title}"):
                self.check_time()
                measure(self, base, default_timer() + self.left() / (len(bases) - number))

    def _write(self, **result) -> None:
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": self.part, **result}) + "\n")

    @property
    def on_card(self) -> bool:
        return not self.rehearse

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that models are sampled in."""
        return torch.float16 if self.on_card else torch.float32

    def memory(self) -> int:
        """Return the bytes that PyTorch holds on the card; to rehearse, those of this process."""
        return torch.cuda.memory_allocated() if self.on_card else psutil.Process().memory_info().rss

    def reset_peak(self) -> None:
        if self.on_card:
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Return the most bytes since `reset_peak`; to rehearse, those of now."""
        return torch.cuda.max_memory_allocated() if self.on_card else self.memory()


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.4g} MB"
