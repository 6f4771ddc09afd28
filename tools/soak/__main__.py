"""Soak a real server: random prompts from two clients, interrupts, changing files; then the verdict.

make soak SOAK_ARGS="--prompts 300 --seed 1"        or, after make setup: PYTHONPATH=tools python -m soak
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from comfyhost.install import exit_code
from comfyhost.places import ToolError, cached_host
from comfyhost.server import ComfyServer, end_on_terminate
from ipadapter_instruct.commands.servers.client import Client

from soak.files import Files
from soak.memory import ENVIRONMENT, Level
from soak.player import Player
from soak.tried_values import NODES

GROWTH = 0.05
TRACEBACK, FAILED_NODE = "Traceback (most recent call last)", "!!! Exception during processing !!!"
PROMPT_ENDED = "Prompt executed"


def main() -> int:
    """Run the soak; return 1 when something was not as it should be."""
    end_on_terminate()
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another run (1)")
    options = parser.parse_args()
    return exit_code(lambda: soak(options.prompts, options.seed))


def soak(number: int, seed: int) -> None:
    """Do the whole run and say what happened. Raises ToolError, with the complaints."""
    begin = time.monotonic()
    with ExitStack() as stack:
        files = Files(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))))
        files.build()
        host = replace(cached_host(), models=files.models)
        server = ComfyServer(host, files.base, arguments=["--deterministic"], environment=ENVIRONMENT)
        stack.enter_context(server)
        player = Player(server, [stack.enter_context(Client(server.url)) for _ in range(2)], files, seed)
        player.play(number)
        server.check_alive()
        used = {node["class_type"] for prompt in player.prompts for node in prompt.values()} & NODES.keys()
        print(f"\n{number} prompts in {(time.monotonic() - begin) / 60:.1f} minutes: {dict(player.verdict.outcomes)}")
        print(f"{player.verdict.compared} repeats compared; {len(used)} of {len(NODES)} nodes used")
        complaints = [*player.verdict.complaints, *of_memory(player.levels), *of_log(server.log_text())]
    if complaints:
        again = f'make soak SOAK_ARGS="--prompts {number} --seed {seed}"'
        raise ToolError("\n".join(("the soak failed.", *complaints, f"Again: {again}")))


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
