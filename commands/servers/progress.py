"""A line that says how much is done, and how long the rest will take."""

from __future__ import annotations

import sys
import time

EVERY = 30.0  # seconds between lines where there is no terminal


def say(words: str) -> None:
    """Print a line beside what a command puts out."""
    print(words, file=sys.stderr, flush=True)


class Progress:
    """Counts of jobs, printed as they change. before: those done by an earlier run."""

    def __init__(self, total: int, before: int):
        self.total, self.done, self.failed, self.before = total, before, 0, before
        self.begin = time.monotonic()
        self.printed = self.begin
        self.terminal = sys.stderr.isatty()

    def add(self, failed: bool) -> None:
        self.done += not failed
        self.failed += failed
        if self.terminal:
            print(f"\r\033[K{self}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() > self.printed + EVERY:
            self.say(str(self))

    def say(self, words: str) -> None:
        """Print a line of its own."""
        self.printed = time.monotonic()
        say(f"\r\033[K{words}" if self.terminal else words)

    def __str__(self) -> str:
        now = self.done - self.before + self.failed
        failed = f", {self.failed:,} failed" if self.failed else ""
        left = self.total - self.done - self.failed
        rest = f", {duration((time.monotonic() - self.begin) / now * left)} left" if now and left else ""
        return f"{self.done:,} of {self.total:,} done{failed}{rest}"


def duration(seconds: float) -> str:
    """Return a length of time in words, such as 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
