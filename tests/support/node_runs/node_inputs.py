"""Inputs of the pack's nodes, as a small workflow gives them."""

from __future__ import annotations

import torch
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply

from support import small_models
from support.pack_nodes import run_node

NAN, INFINITE = float("nan"), float("inf")
PICTURE, MASK = torch.rand(1, 40, 50, 3), torch.ones(1, 40, 50)
BATCH = {"batch_factors": "1, 0.5", "three_way_until": 0.8}
PREPARING = {
    **dict(image=PICTURE, mask=MASK, action="cut out", background="random"),
    **dict(seed=0, feather=2.0, padding=0.1, invert=False),
}


def apply(**changes):
    """The output of Apply Instruct Embeds, with other inputs where they are given."""
    inputs = {
        "model": small_models.small_model(),
        "embeds": small_models.golden_embeds(),
        "weight": 0.8,
        "guidance": "auto",
        "instruct_guidance": 2.0,
        "image_guidance": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    return run_node(IPAdapterInstructApply, **{**inputs, **changes})
