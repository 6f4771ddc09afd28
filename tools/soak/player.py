"""Plays random prompts on a server: a few at a time from two clients, some interrupted, files changed in between.

Not a state machine of hypothesis (6.170), which was tried and finds as much (docs/measurements.md) with 50 lines more:
its examples end at 8 KB of choices, some 46 prompts; it plays the plainest example first, and a failing one again;
208 of 300 prompts were different ones, and 18 of 32 examples had a single rule.
"""

import random
import statistics
import time
from collections.abc import Sequence

from comfyhost.prompt_builder import ApiPrompt
from comfyhost.server import ComfyServer
from ipadapter_instruct.commands.servers.client import Client

from soak.files import ADAPTERS, CHANGES, Files
from soak.memory import Level, level
from soak.prompts import Drawing
from soak.verdict import Outcome, Verdict, files_of, outcome, queued, stored

AT_ONCE = 4  # prompts in the queue, at most
DISTANCE = 6  # prompts between a prompt and its repeat, at least
OPENING, EVERY = 30, 50  # prompts before the memory is looked at
REPEATED, WAITED, INTERRUPTED, CHANGED, PUT_BACK = 0.3, 0.4, 0.12, 0.25, 0.5  # shares of the steps; of changed files


class Player:
    """A server that is being soaked, by two clients. prompts: all so far. pending: those that nobody waited for yet."""

    def __init__(self, server: ComfyServer, clients: Sequence[Client], files: Files, seed: int):
        self.server, self.clients, self.files, self.random = server, clients, files, random.Random(seed)
        self.verdict, self.seconds = Verdict(), [3.0]  # of each prompt
        self.prompts: list[ApiPrompt] = []
        self.pending: list[tuple[int, Client, str | Outcome, dict]] = []
        self.levels: list[Level] = []
        inputs = clients[0].object_info()["KSampler"]["input"]["required"]
        self.offered = {name: inputs[name][0] for name in ("sampler_name", "scheduler")}

    def play(self, number: int) -> None:
        while len(self.prompts) < number:
            self.step()
            if len(self.prompts) in {min(OPENING, number // 2), *range(EVERY, number, EVERY), number}:
                self.measure()

    def step(self) -> None:
        """Put changed files back at times, queue a prompt, new or earlier, and do what may happen around it."""
        for name in self.files.changed() if not self.pending else ():
            if self.random.random() < PUT_BACK:
                self.files.put(name, ADAPTERS[name])
        act = self.random.random()
        if act < CHANGED and self.prompts:
            return self.change()
        earlier = self.prompts[:-DISTANCE]
        if earlier and self.random.random() < REPEATED:
            self.queue(self.random.choice(earlier))
        else:
            self.queue(Drawing(self.random, self.offered, self.files.state).prompt())
        if act > 1 - INTERRUPTED:
            self.interrupt()
        elif len(self.pending) == AT_ONCE or self.random.random() < WAITED:
            self.settle()

    def queue(self, prompt: ApiPrompt) -> None:
        client = self.random.choice(self.clients)
        self.pending.append((len(self.prompts), client, queued(client, prompt), dict(self.files.state)))
        self.prompts.append(prompt)

    def change(self) -> None:
        """Change a file of the last prompt or of an earlier one, and play that prompt again."""
        self.settle()
        prompt = self.random.choice((self.prompts[-1], self.random.choice(self.prompts)))
        files = files_of(prompt, self.files.state)
        stored_ones = [name for name in files if name not in ADAPTERS]  # few prompts read any
        name, how = self.random.choice([*files, *stored_ones * 3]), self.random.choice(CHANGES)
        if self.files.state[name]:
            self.files.change(name, how)
            print(f"     {name}: {how}", flush=True)
        self.queue(prompt)
        self.settle()

    def interrupt(self) -> None:
        """Interrupt what runs, as the page's button does, at a random moment of the time expected."""
        time.sleep(self.random.random() * statistics.median(self.seconds) * len(self.pending))
        self.clients[0].post("/interrupt")
        self.settle(interrupted=True)

    def settle(self, interrupted: bool = False) -> None:
        """Wait until the queue is empty, judge what came of it, and keep files that were saved for later prompts."""
        begin, ended, kept = time.monotonic(), self.pending, []
        self.pending = []
        for number, client, got, state in ended:
            prompt = self.prompts[number]
            came = got if isinstance(got, Outcome) else outcome(client, prompt, got, self.files.base)
            why = self.verdict.take(number, prompt, came, state, interrupted)
            print(f"{number:4d} {came.kind} {why}", flush=True)
            kept += stored(prompt, came, state)
            self.seconds.append((time.monotonic() - begin) / len(ended))
        for path, content in kept:  # once none is running that may read the file in whose place it comes
            self.files.store(path, content)

    def measure(self) -> None:
        self.settle()
        self.levels.append(level(self.clients[0], self.server.process.pid, len(self.prompts)))
        print(self.levels[-1], flush=True)
