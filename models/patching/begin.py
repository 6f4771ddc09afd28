"""The beginning of a sampling run: everything that no step changes is computed here, once."""

from __future__ import annotations

import torch

from .chain import AppliedAdapter, Chain
from .entrances import entrance_of
from .masks import SiteMasks
from .run import SIMPLE_ROWS, THREE_WAY_ROWS, BranchKeysValues, Run, RunningAdapter
from .window import SigmaWindow


def begin_run(chain: Chain, guider) -> Run:
    """Keys and values for every adapter that has any weight. The guider's model must be loaded by now."""
    applied = [a for a in chain.applied if a.weight != 0 and any(a.frame_weights or (1.0,))]
    return Run(tuple(_running(a, guider.model_patcher) for a in applied), lambda: guider.conds)


def _running(applied: AppliedAdapter, model_patcher) -> RunningAdapter:
    rows = THREE_WAY_ROWS if applied.is_three_way else SIMPLE_ROWS
    model = model_patcher.model
    dtype = model.manual_cast_dtype or model.get_dtype()
    tokens = torch.cat([applied.tokens.branches[branch] for branch in rows]).to(model_patcher.load_device)
    tokens = entrance_of(applied.adapter.family).embed(model.diffusion_model, tokens, dtype)
    pairs = applied.adapter.keys_values(tokens, dtype)
    if applied.tokens.weights is not None:
        factors = applied.tokens.weights.repeat(len(rows), 1).unsqueeze(-1).to(pairs[0][1])
        pairs = [(keys, values * factors) for keys, values in pairs]
    model_sampling = model_patcher.get_model_object("model_sampling")
    return RunningAdapter(
        applied=applied,
        keys_values=BranchKeysValues(
            rows, dict(zip(applied.site_keys, pairs, strict=True)), len(applied.tokens.branches.full)
        ),
        window=SigmaWindow.from_percents(applied.start_percent, applied.end_percent, model_sampling),
        masks=None if applied.mask is None else SiteMasks(applied.mask),
    )
