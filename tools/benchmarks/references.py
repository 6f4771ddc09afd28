"""What several references cost while sampling: all together, or one for each latent of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.branches import Branches
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.embeds import InstructEmbeds
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counting import Attentions, counted, in_a_run
from benchmarks.models import BASES, SIMPLE, Base, adapter, model
from benchmarks.report import Result
from benchmarks.sampling import CFG, FILE_DTYPE, kept

BRANCHES = 2  # of simple guidance
LATENTS = 16
CASES = (  # what, latents with tokens of their own, references of each
    ("1 reference", 1, 1),
    ("2 together", 1, 2),
    ("4 together", 1, 4),
    ("8 together", 1, 8),
    ("4, one per latent", 4, 1),
    ("16, one per latent", 16, 1),
)


def references() -> Iterator[Result]:
    """Promised: the bytes of 16 tokens a reference, and in a model call one attention a site."""
    for base in BASES:
        bare = step(base, None)
        for what, own, together in CASES:
            found = step(base, embeds(base, own, together))
            tokens = own * together * TOKENS
            values = {
                "GFLOPs a row": found["flops"] / found["rows"] / 1e9,
                "ratio a row": found["flops"] / bare["flops"],
                "attentions added": found["attentions"] / found["calls"] - bare["attentions"] / bare["calls"],
                "keys and values": found["bytes"],
            }
            promised = {
                "attentions added": len(base.site_widths),
                "keys and values": 2 * BRANCHES * tokens * sum(base.site_widths) * torch.float16.itemsize,
            }
            yield Result(f"{base.title}, {what}", values, promised)


def embeds(base: Base, own: int, together: int) -> InstructEmbeds:
    tokens = Branches(*torch.randn(4, own, together * TOKENS, base.family.context_width))
    return InstructEmbeds(adapter(base, FILE_DTYPE), "", tokens)


def step(base: Base, shown: InstructEmbeds | None) -> dict[str, int]:
    """Counts of one full-size step of a batch in simple guidance."""
    patched = model(base)
    if shown is not None:
        patched = apply_instruct(patched, shown, ApplySettings(**SIMPLE))[0]

    def one_step(step: Callable, options: dict) -> dict[str, int]:
        attentions, counter = Attentions(), FlopCounterMode(display=False)
        with counted([patched.model.diffusion_model]) as rows, attentions, counter:
            step()
        return {
            "rows": sum(rows),
            "calls": len(rows),
            "flops": counter.get_total_flops(),
            "attentions": attentions.calls,
            "bytes": kept(step, options)[0] if shown is not None else 0,
        }

    return in_a_run(patched, base, CFG, one_step, latents=LATENTS)
