"""The laws that hold in every situation, whatever a user has set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import event
from torch import Tensor

from support import small_models
from support.other_nodes.with_other_node import in_parts
from support.sampling.short_runs import close, same
from support.situations.situation import Situation, applied
from support.situations.situation_oracle import expected


def as_the_oracle_says(situation: Situation) -> None:
    """The latent is that of an independent model."""
    found, reference = situation.sampled(applied(situation)), expected(situation)
    if not reference.isfinite().all():
        event("not finite, whatever the model")
        assert not found.isfinite().all()
        return
    close_but_for_rounding(situation, found, reference)


def close_but_for_rounding(situation: Situation, found: Tensor, reference: Tensor) -> None:
    """Within 1e-3 of the largest value, or as near as rounding lets an independent model be to itself.

    Sampled from nearly nothing upwards, what another order of sums changes grows to more than 1e-3.
    """
    tolerance, scale = 1e-3, float(reference.abs().max())
    if float((found - reference).abs().max()) > tolerance * scale:
        event("as far apart as rounding may bring them")
        one, two = (expected(situation, copies) for copies in (1, 2))
        tolerance = max(tolerance, 3 * float((two - one).abs().max()) / scale)
    close(found, reference, tolerance)


def lawful(situation: Situation, parts: Sequence[list[int]]) -> None:
    """Bit for bit but for the split: run again, weight 0, and the latents of these parts as if they were alone."""
    model = applied(situation)
    found = situation.sampled(model)
    if not found.isfinite().all():
        return
    same(situation.sampled(model), found)
    without = replace(situation, links=tuple(replace(link, weight=0.0) for link in situation.links))
    same(without.sampled(applied(without)), situation.sampled(small_models.shared_model(situation.family)))
    close_but_for_rounding(situation, situation.sampled(in_parts(model, *parts)), found)
