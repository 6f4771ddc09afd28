"""The outcomes of many inputs, counted by what was done to them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuzzing.inputs import Input
from fuzzing.trial import FAULTS, LOAD, REFUSAL, Outcome

NUMBER, EXAMPLES = re.compile(r"\d[\d,.]*"), 5


@dataclass
class Tally:
    """The counts of outcomes.

    by_class: verdicts by reader and what was spoilt. messages: refusals but for their numbers, with an example.
    """

    by_class: dict[tuple[str, str], Counter] = field(default_factory=lambda: defaultdict(Counter))
    messages: dict[tuple[str, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    counts: Counter = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    most_memory: int = 0

    def add(self, index: int, given: Input, outcome: Outcome) -> str | None:
        """Count an outcome; return a line to be shown when it is a fault."""
        group = (given.reader, given.spoilt)
        self.counts[outcome.verdict] += 1
        self.by_class[group][outcome.verdict] += 1
        self.most_memory = max(self.most_memory, outcome.grown)
        if outcome.verdict == REFUSAL:
            self.messages[group].setdefault(NUMBER.sub("N", outcome.message), outcome.message)
        if outcome.verdict not in FAULTS:
            return None
        line = f"{outcome.verdict.upper()} {given}: {outcome.message}"
        self.faults.append((index, line))
        return line

    def table(self) -> Iterator[str]:
        """Yield a table in Markdown: what was read, what was spoilt, loads, refusals, distinct messages, faults."""
        yield "| read as | spoilt | inputs | loads | refusals | distinct messages | faults |"
        yield "|---|---|---|---|---|---|---|"
        for group, verdicts in sorted(self.by_class.items()):
            faults = sum(verdicts[fault] for fault in FAULTS)
            numbers = (verdicts.total(), verdicts[LOAD], verdicts[REFUSAL], len(self.messages[group]), faults)
            yield f"| {group[0]} | {group[1]} | {' | '.join(map(str, numbers))} |"

    def examples(self) -> Iterator[str]:
        """Yield every distinct refusal, once."""
        yield from sorted({example for known in self.messages.values() for example in known.values()})

    @property
    def distinct(self) -> int:
        return len({message for known in self.messages.values() for message in known})
