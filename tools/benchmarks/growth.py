"""The growth of costs with references, frames and chained adapters: a straight line, with the slope of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bounds import stream_flops, token_flops
from benchmarks.counting import counted, in_a_run
from benchmarks.models import BASES, SIMPLE, Base, adapter, model
from benchmarks.report import Result
from benchmarks.sampling import CFG, FILE_DTYPE, kept

BRANCHES = 2  # of simple guidance
REFERENCES, FRAMES, CHAINED = (1, 2, 4, 8), (1, 4, 16, 64), (1, 2, 3, 4)


@dataclass(frozen=True)
class Load:
    """The load of a step.

    together: references of a latent. latents: in a batch, each with references of its own. chained: adapters.
    """

    together: int = 1
    latents: int = 1
    chained: int = 1


CASES = (
    *((f"references together: {n}", Load(together=n)) for n in REFERENCES),
    *((f"frames, each its own reference: {n}", Load(latents=n)) for n in FRAMES),
    *((f"adapters in a chain: {n}", Load(chained=n)) for n in CHAINED),
)


def growth() -> Iterator[Result]:
    """Promise exactly what the bounds say of so many tokens, so that each costs what the first did."""
    for base in BASES:
        bare = {latents: step(base, Load(latents=latents, chained=0)) for latents in FRAMES}
        for what, load in CASES:
            found = step(base, load)
            alone = bare[load.latents]["flops"] / bare[load.latents]["rows"]
            added = found["flops"] / found["rows"] - alone
            values = {
                "ratio a row": 1 + added / alone,
                "MFLOPs added a row": added / 1e6,
                "of them by tokens": (added - load.chained * stream_flops(base, base.latent)) / 1e6,
                "keys and values": found["bytes"],
            }
            tokens = load.together * load.latents * load.chained * TOKENS
            by_tokens = load.chained * token_flops(base, base.latent, load.together * TOKENS)
            promised = {
                "of them by tokens": by_tokens / 1e6,
                "keys and values": 2 * BRANCHES * tokens * sum(base.site_widths) * torch.float16.itemsize,
            }
            yield Result(f"{base.title}, {what}", values, promised)


def step(base: Base, load: Load) -> dict[str, float]:
    """Count one full-size step in simple guidance."""
    patched = model(base)
    for _ in range(load.chained):
        tokens = Branches(*torch.randn(4, load.latents, load.together * TOKENS, base.family.context_width))
        shown = InstructEmbeds(adapter(base, FILE_DTYPE), "", tokens)
        patched = apply_instruct(patched, shown, ApplySettings(**SIMPLE))[0]

    def one_step(step: Callable, options: dict) -> dict[str, float]:
        counter = FlopCounterMode(display=False)
        with counted([patched.model.diffusion_model]) as rows, counter:
            step()
        return {
            "rows": sum(rows),
            "flops": counter.get_total_flops(),
            "bytes": kept(step, options)[0] if load.chained else 0,
        }

    return in_a_run(patched, base, CFG, one_step, latents=load.latents)
