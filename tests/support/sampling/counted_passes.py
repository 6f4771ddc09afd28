"""How often a model runs, counted."""

from __future__ import annotations

from collections.abc import Callable

from support.sampling.short_runs import CFG, sample


def rows(model, run: Callable[[], object]) -> list[int]:
    """How many rows each call of the model has while `run` runs: with one latent, its passes."""
    calls, denoiser = [], model.model.diffusion_model
    hook = denoiser.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    try:
        run()
    finally:
        hook.remove()
    return calls


def passes(model, cfg: float = CFG, **steps) -> list[int]:
    """The passes of each step of a short run."""
    return rows(model, lambda: sample(model, cfg=cfg, **steps))
