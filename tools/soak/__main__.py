"""Soak a real server: random prompts from two clients, interrupts, changing files; then the verdict.

make soak SOAK_ARGS="--prompts 300 --seed 1"        or, after make setup: PYTHONPATH=tools python -m soak
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from comfyhost.client import Client
from comfyhost.install import say
from comfyhost.places import ToolError, cached_host
from comfyhost.server import ComfyServer, end_on_terminate

from soak.encoding import NODES
from soak.files import Files
from soak.memory import ENVIRONMENT, Level
from soak.player import Player

GROWTH = 0.05
TRACEBACK, FAILED_NODE = "Traceback (most recent call last)", "!!! Exception during processing !!!"
PROMPT_ENDED = "Prompt executed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; return 1 when something was not as it should be."""
    end_on_terminate()
    options = parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            complaints = soak(Path(options.folder or folder), options)
    except ToolError as error:
        say(f"error: {error}")
        return 1
    print("\n".join(f"WRONG: {one}" for one in complaints))
    again = f'make soak SOAK_ARGS="--prompts {options.prompts} --seed {options.seed}"'
    print(f"The soak failed. Again: {again}" if complaints else "The soak passed.")
    return 1 if complaints else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another run (1)")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further prompts after so many")
    parser.add_argument("--folder", help="an empty folder to work in and to keep, instead of a temporary one")
    return parser.parse_args(arguments)


def soak(base: Path, options: argparse.Namespace) -> list[str]:
    """Do the whole run in folders below `base`, say what happened, and return the complaints."""
    begin, files = time.monotonic(), Files(base)
    files.build()
    host = replace(cached_host(), models=files.models)
    server = ComfyServer(host, base, arguments=["--deterministic"], environment=ENVIRONMENT)
    with server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.url)) for _ in range(2)]
        player = Player(server, clients, files, options.seed)
        player.play(options.prompts, begin + 60 * options.minutes)
        server.check_alive()
        report(player, (time.monotonic() - begin) / 60)
        return [*player.verdict.complaints, *of_memory(player.levels), *of_log(server.log_text())]


def report(player: Player, minutes: float) -> None:
    outcomes = ", ".join(f"{count} {kind}" for kind, count in sorted(player.verdict.outcomes.items()))
    used = {node["class_type"] for prompt in player.prompts for node in prompt.values()} & NODES.keys()
    print(f"\n{len(player.prompts)} prompts in {minutes:.1f} minutes: {outcomes}")
    print(f"{player.verdict.compared} repeats compared; {len(used)} of {len(NODES)} nodes used")
    print(*player.levels, *sorted(player.verdict.refusals), sep="\n")


def of_memory(levels: Sequence[Level]) -> list[str]:
    growth = levels[-1].anonymous / levels[0].anonymous - 1
    grown = f"memory grew by {growth:.1%} from prompt {levels[0].prompts} to the last"
    return [grown] if growth > GROWTH else []


def of_log(log: str) -> list[str]:
    """Return the beginnings of tracebacks in the server's log, but for those of nodes, of which clients are told."""
    rest = re.sub(f"{FAILED_NODE}.*?{PROMPT_ENDED}", "", log, flags=re.DOTALL)
    return [f"a traceback in the server's log: {one[:600]}" for one in rest.split(TRACEBACK)[1:4]]


if __name__ == "__main__":
    sys.exit(main())
