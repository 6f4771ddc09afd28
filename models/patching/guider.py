"""A guider with the three scales of three-way guidance."""

from __future__ import annotations

import comfy.samplers

from ..guidance import count_passes
from .chain import CHAIN


def three_scale_guider(
    model, conds: tuple[list, list], text_scale: float, instruct_scale: float, image_scale: float
) -> tuple[comfy.samplers.CFGGuider, int]:
    """A guider of the model, whose Applies get these scales, and how many passes its steps have.

    conds: positive and negative. Applies that ask for simple guidance keep it.
    Raises ValueError for a model without an adapter in three-way guidance or `auto`.
    """
    chain = model.model_options["transformer_options"].get(CHAIN)
    guided = chain and chain.guided(instruct_scale, image_scale)
    if not guided or not any(applied.is_three_way for applied in guided.applied):
        found = "asks for simple guidance" if chain else "has no adapter"
        raise ValueError(
            f"A model from Apply IPAdapter-Instruct was expected, with guidance auto or three-way; this one {found}. "
            "Connect or change it, or use CFGGuider."
        )
    model = model.clone()
    model.model_options["transformer_options"][CHAIN] = guided
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conds)
    guider.set_cfg(text_scale)
    return guider, count_passes(instruct_scale, image_scale, text_scale)
