"""Soak a real server: random prompts from two clients, interrupts, changing files; then the verdict.

make soak SOAK_ARGS="--prompts 300 --seed 1"        or, after make setup: PYTHONPATH=tools python -m soak
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from comfyhost.client import Client
from comfyhost.install import say
from comfyhost.places import ToolError, cached_host
from comfyhost.server import ComfyServer, end_on_terminate

from soak.generator import Generator, Prompt, preparations
from soak.memory import ENVIRONMENT, Level, level
from soak.player import Player
from soak.scene import Choices
from soak.schema import Schema
from soak.verdict import BROKEN, REFUSED, Coverage, Verdict, digests
from soak.world import World

OPENING, EVERY = 30, 50
GROWTH = 0.05
SLOW = ("dpm_adaptive",)  # as many steps as it likes
TRACEBACK = "Traceback (most recent call last)"
FAILED_NODE = "!!! Exception during processing !!!"


@dataclass(frozen=True)
class Report:
    """The findings of a soak. complaints: why it failed, if it did."""

    complaints: list[str]
    lines: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; return 1 when something was not as it should be."""
    end_on_terminate()
    options = parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            report = soak(Path(options.folder or folder), options)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    print("\n".join(["", *report.lines, *(f"WRONG: {one}" for one in report.complaints)]))
    print("The soak failed." if report.complaints else "The soak passed.")
    return 1 if report.complaints else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another run (1)")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further prompts after so many")
    parser.add_argument("--bare", action="store_true", help="graphs without the pack, to compare memory with")
    parser.add_argument("--folder", help="an empty folder to work in and to keep, instead of a temporary one")
    return parser.parse_args(arguments)


def soak(base: Path, options: argparse.Namespace) -> Report:
    """Do the whole run, in folders below `base`."""
    begin = time.monotonic()
    world = World(base)
    say("Writing small models")
    world.build()
    host = replace(cached_host(), models=world.models)
    server = ComfyServer(host, base, arguments=["--deterministic"], environment=ENVIRONMENT)
    with server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.url)) for _ in range(2)]
        choices = offered(clients[0])
        if not options.bare:
            prepare(clients[0], world, choices)
        generator = Generator(options.seed, choices, bare=options.bare)
        run = SoakRun(server, clients, world, options.seed)
        levels = run.play(generator, options.prompts, begin + 60 * options.minutes)
        server.check_alive()
        return run.report(generator.prompts, levels, time.monotonic() - begin)


def offered(client: Client) -> Choices:
    """The server's samplers and schedulers."""
    inputs = client.object_info()["KSampler"]["input"]["required"]
    samplers, schedulers = inputs["sampler_name"][0], inputs["scheduler"][0]
    return Choices(tuple(one for one in samplers if one not in SLOW), tuple(schedulers))


def prepare(client: Client, world: World, choices: Choices) -> None:
    """Have the server make the stored embeds and faces."""
    say("Preparing stored embeds and faces")
    for number, (file, graph) in enumerate(preparations(Schema(), choices).items()):
        prompt = Prompt(number, "preparation", "", graph)
        made = digests(client.run(graph), prompt, world.base)
        newest = max(world.base.glob("output/*/prepared*"), key=lambda path: path.stat().st_mtime_ns)
        if not made:
            raise ToolError(f"The preparation of {file} has saved nothing.")
        world.keep_prepared(file, newest)


class SoakRun:
    """A server that is being soaked."""

    def __init__(self, server: ComfyServer, clients: Sequence[Client], world: World, seed: int):
        self.server = server
        self.clients = clients
        self.verdict = Verdict()
        self.player = Player(clients, world, self.verdict, random.Random(f"player {seed}"))

    def play(self, generator: Generator, number: int, until: float) -> list[Level]:
        """Play what begins in time; return the memory after the opening, at regular distances, and at the end."""
        stops = sorted({min(OPENING, number), *range(EVERY, number, EVERY), number})
        levels = []
        try:
            for stop in stops:
                self.player.play(generator.take(stop - len(generator.prompts)), until)
                played = self.verdict.outcomes.total()
                levels.append(level(self.clients[0], self.server.process.pid, played))
                print(levels[-1], flush=True)
                if played < stop:
                    break
        finally:
            self.player.close()
        return levels

    def report(self, prompts: Sequence[Prompt], levels: Sequence[Level], seconds: float) -> Report:
        verdict, coverage = self.verdict, Coverage(Schema())
        prompts = prompts[: verdict.outcomes.total()]
        for prompt in prompts:
            coverage.take(prompt)
        first, last = levels[0], levels[-1]
        growth = last.anonymous / first.anonymous - 1
        complaints = [*verdict.complaints, *self.log_complaints()]
        if growth > GROWTH:
            complaints.append(f"memory grew by {growth:.1%} from prompt {first.prompts} to the last")
        changes = ", ".join(f"{how} {count}" for how, count in sorted(self.player.changes.counts.items()))
        return Report(
            complaints,
            [
                f"{len(prompts)} prompts in {seconds / 60:.1f} minutes: {counted(verdict.outcomes)}",
                f"interrupts sent: {self.player.interrupts}",
                f"changes to files: {changes or 'none'}",
                f"repeats compared: {verdict.compared}",
                f"coverage: {coverage}",
                f"memory: {growth:+.1%} anonymous from prompt {first.prompts} to {last.prompts}",
                *map(str, levels),
                "refusals, and why they were expected:",
                *sorted(set(verdict.refusals)),
            ],
        )

    def log_complaints(self) -> list[str]:
        """Return the tracebacks in the server's log beyond one for each prompt that a node refused."""
        log = self.server.log_text()
        tracebacks, nodes = log.count(TRACEBACK), log.count(FAILED_NODE)
        known = self.verdict.outcomes[REFUSED] + self.verdict.outcomes[BROKEN]
        found = []
        if nodes > known:
            found.append(f"{nodes} nodes failed by the server's log, {known} prompts were refused")
        if tracebacks > nodes:
            found.append(f"{tracebacks} tracebacks in the server's log, {nodes} of them of nodes: {_others(log)}")
        return found


def counted(outcomes) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items()))


def _others(log: str) -> str:
    """The beginning of the tracebacks that are not of nodes."""
    return " | ".join(
        re.findall(rf"(?<!{re.escape(FAILED_NODE)}\n)(?<=\n){re.escape(TRACEBACK)}.{{0,600}}", log, re.S)[:3]
    )


if __name__ == "__main__":
    sys.exit(main())
