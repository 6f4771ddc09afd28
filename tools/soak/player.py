"""Plays prompts on a server: a few at a time from two clients, some interrupted, files changed in between."""

from __future__ import annotations

import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comfyhost.client import (
    Client,
    ClientError,
    NodeFailedError,
    PromptRejectedError,
    RunInterruptedError,
)

from soak.generator import Prompt
from soak.verdict import BROKEN, DONE, INTERRUPTED, REFUSED, Outcome, Verdict, digests, files_of, why_unsound
from soak.world import Changes, World

AT_ONCE = (1, 1, 2, 3, 4)
INTERRUPTED_ROUNDS = 0.22
TIMEOUT = 600
PACK = "IPAdapterInstruct"


class Player:
    """Plays prompts in rounds, in the order of the queue. clients: two connections. interrupts: how many were sent."""

    def __init__(self, clients: Sequence[Client], world: World, verdict: Verdict, drawn: random.Random):
        self.clients = clients
        self.threads = [ThreadPoolExecutor(1) for _ in clients]
        self.world = world
        self.verdict = verdict
        self.random = drawn
        self.changes = Changes(world, drawn)
        self.interrupts = 0
        self.seconds = [3.0]

    def close(self) -> None:
        for thread in self.threads:
            thread.shutdown()

    def play(self, prompts: Iterable[Prompt], until: float) -> None:
        """Play all of them, a round after the other, while the clock is not past `until`."""
        prompts = list(prompts)
        while prompts and time.monotonic() < until:
            number = self.random.choice(AT_ONCE)
            self.round(prompts[:number])
            prompts = prompts[number:]

    def round(self, prompts: Sequence[Prompt]) -> None:
        """Change files, queue the prompts from both clients, interrupt perhaps, and wait for all."""
        wanted = [name for prompt in prompts for name in files_of(prompt)]
        for change in self.changes.between_prompts(wanted):
            print(f"  {change}", flush=True)
        state = dict(self.world.state)
        shares = [self.random.randrange(len(self.clients)) for _ in prompts]
        begin = time.monotonic()
        running = [
            (
                thread.submit(
                    self._run_all, client, [p for p, share in zip(prompts, shares, strict=True) if share == one]
                )
            )
            for one, (client, thread) in enumerate(zip(self.clients, self.threads, strict=True))
        ]
        sent = self._interrupt_perhaps(len(prompts))
        outcomes = dict(pair for future in running for pair in future.result())
        self.seconds.append((time.monotonic() - begin) / len(prompts))
        for prompt in prompts:
            self.verdict.take(prompt, outcomes[prompt.number], state, sent)
            self._say(prompt, outcomes[prompt.number], why_unsound(prompt, state))

    def _run_all(self, client: Client, prompts: Sequence[Prompt]) -> list[tuple[int, Outcome]]:
        """Queue all of a client's prompts, then follow one after the other."""
        queued = [(prompt, _queued(client, prompt)) for prompt in prompts]
        return [
            (prompt.number, got if isinstance(got, Outcome) else outcome(client, prompt, got, self.world.base))
            for prompt, got in queued
        ]

    def _interrupt_perhaps(self, prompts: int) -> int:
        """Interrupt at random moments of a round, as the page's button does; return how many interrupts were sent."""
        if self.random.random() > INTERRUPTED_ROUNDS:
            return 0
        expected = statistics.median(self.seconds) * prompts
        moments = sorted(self.random.uniform(0, expected) for _ in range(self.random.choice((1, 1, 2))))
        begin = time.monotonic()
        for moment in moments:
            threading.Event().wait(max(moment - (time.monotonic() - begin), 0))
            interrupt(self.clients[0].url)
        self.interrupts += len(moments)
        return len(moments)

    def _say(self, prompt: Prompt, came: Outcome, why: str) -> None:
        again = "" if prompt.repeats is None else f" (prompt {prompt.repeats} again)"
        words = f": {why or came.said.splitlines()[-1][:200]}" if came.kind != DONE else ""
        print(f"{prompt.number + 1:4d} {prompt.recipe}, {prompt.family}{again}: {came.kind}{words}", flush=True)


def _queued(client: Client, prompt: Prompt) -> str | Outcome:
    """The prompt's id, or what became of it where the server would not have it."""
    try:
        return client.queue(prompt.graph)
    except PromptRejectedError as error:
        return Outcome(REFUSED, str(error))
    except ClientError as error:
        return Outcome(BROKEN, str(error))


def outcome(client: Client, prompt: Prompt, prompt_id: str, base: Path) -> Outcome:
    """Follow a queued prompt to its end. The pack's nodes refuse with a ValueError; all else is not expected."""
    try:
        run = client.wait(prompt_id, timeout=TIMEOUT)
        return Outcome(DONE, made=digests(run, prompt, base))
    except RunInterruptedError:
        return Outcome(INTERRUPTED, "interrupted")
    except NodeFailedError as error:
        refused = error.node_type.startswith(PACK) and is_pack_error(error.traceback)
        return Outcome(REFUSED if refused else BROKEN, f"{error}\n{error.traceback[-1500:] if not refused else error}")
    except ClientError as error:
        return Outcome(BROKEN, str(error))


def is_pack_error(traceback: str) -> bool:
    """True when a traceback ends in a `raise` of the pack's own."""
    return "raise ValueError" in traceback[-1500:] or "raise AdapterFileError" in traceback[-1500:]


def interrupt(url: str) -> None:
    request = urllib.request.Request(f"{url}/interrupt", data=b"{}", headers={"Content-Type": "application/json"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()
