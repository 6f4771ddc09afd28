"""A guider with the three scales of three-way guidance."""

from __future__ import annotations

import comfy.samplers

from ..guidance.coefficients import count_passes, count_simple
from ..messages import check_numbers
from .chain import CHAIN


def three_scale_guider(
    model, conds: tuple[list, list], text_scale: float, instruct_scale: float, image_scale: float
) -> tuple[comfy.samplers.CFGGuider, int, bool]:
    """Return a guider whose Applies get these scales; how many passes a step has; whether it is three-way.

    conds: positive and negative. Applies that ask for simple guidance keep it, and so do those of adapters that take no
    instruction: with these alone, a step has two passes.
    Raises ValueError for a model without an adapter in three-way guidance or `auto`.
    """
    chain = model.model_options["transformer_options"].get(CHAIN)
    guided = chain and chain.guided(instruct_scale, image_scale)
    three_way = guided and any(applied.is_three_way for applied in guided.applied)
    if not three_way and not (guided and guided.has_plain):
        found = "asks for simple guidance" if chain else "has no adapter"
        raise ValueError(
            f"A model from Apply IPAdapter-Instruct was expected, with guidance auto or three-way; this one {found}. "
            "Connect or change it, or use CFGGuider."
        )
    check_numbers(text_guidance=text_scale, instruct_guidance=instruct_scale, image_guidance=image_scale)
    model = model.clone()
    model.model_options["transformer_options"][CHAIN] = guided
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conds)
    guider.set_cfg(text_scale)
    passes = count_passes(instruct_scale, image_scale, text_scale) if three_way else count_simple(text_scale)
    return guider, passes, three_way
