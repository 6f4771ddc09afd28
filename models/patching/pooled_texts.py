"""The pooled texts of a step's positives (SDXL, SD3), each where and as strongly as its positives act.

The branches `everything` and `image_only` carry the negative's text and the positive's pooled text. Several positives
may share the image by areas, masks and defaults, and the sampling by time ranges. Then the negative runs once with
each of the pooled texts, and the predictions are averaged as the host averages the positives', so that every place has
what its own positives alone would give.

Axes: B latents, h and w their sides.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import comfy.samplers
import torch
from torch import Tensor

Conds = list[dict]
POOLED = "y"  # where SDXL's and SD3's conditions keep the pooled text, with SDXL's sizes
DEFAULT_CONDITION = "default"  # a condition that acts where the others of its list leave room


@dataclass(frozen=True, eq=False)
class PooledText:
    """A pooled text, and the ids of the positives that have it.

    share: of the whole at each place, [B, 1, h, w], which all texts' shares add up to 1; None for the only text.
    """

    value: object
    ids: frozenset[uuid.UUID]
    share: Tensor | None = None


def pooled_of(cond: dict):
    """Return the condition's pooled text as the host keeps it, or None."""
    return cond.get("model_conds", {}).get(POOLED)


def pooled_texts(positives: Conds, negatives: Conds, x: Tensor, timestep: Tensor) -> list[PooledText]:
    """Return the different pooled texts of the positives that act at this step; of all of them when none acts.

    Of a positive with an area the host puts a copy among the negatives, which is its own partner. The share of its text
    is for the other negatives: they are partners of the other positives, and its own only where none of these acts.
    """
    if len(positives) == 1:
        return [_text(positives)]
    shares = shares_of(positives, x, timestep)
    if all(share is None for share in shares):
        shares = [torch.ones_like(x[:, :1]) for _ in positives]
    groups = _alike([(cond, share) for cond, share in zip(positives, shares, strict=True) if share is not None])
    if len(groups) == 1:
        return [_text([cond for cond, _ in groups[0]])]
    copied, none = {cond.get("uuid") for cond in negatives}, torch.zeros_like(x[:, :1])
    own, others = (
        torch.stack([sum((s for c, s in g if (c.get("uuid") in copied) is is_copied), none) for g in groups])
        for is_copied in (False, True)
    )
    sums = torch.where(own.sum(dim=0) != 0, own, others)
    nobodys = sums.sum(dim=0) == 0
    sums[0] += nobodys  # some text must be there
    return [_text([cond for cond, _ in g], s / sums.sum(dim=0)) for g, s in zip(groups, sums, strict=True)]


def with_pooled_texts(negatives: Conds, texts: Sequence[PooledText], x: Tensor, timestep: Tensor) -> Conds:
    """Return the negatives with the positives' pooled texts: the only one, their own, or each in its share."""
    if len(texts) == 1:
        return [_with_value(cond, texts[0].value) for cond in negatives]
    conds: Conds = []
    of_id: dict[uuid.UUID | None, PooledText] = {own: text for text in texts for own in text.ids}
    for cond, share in zip(negatives, shares_of(negatives, x, timestep), strict=True):
        partner = of_id.get(cond.get("uuid"))
        if partner is not None:
            conds.append(_with_value(cond, partner.value))
        elif share is not None:
            parts = ((text, share * cast(Tensor, text.share)) for text in texts)
            conds += [_with_value(_with_share(cond, part), text.value) for text, part in parts if part.any()]
    return conds


def shares_of(conds: Conds, x: Tensor, timestep: Tensor) -> list[Tensor | None]:
    """Return each condition's weight at each place, [B, 1, h, w]; None for one that does not act now.

    Source: ComfyUI 0.3.75, samplers.py, `_calc_cond_batch` and `finalize_default_conds`.
    """
    shares = [_share(cond, x, timestep) for cond in conds]
    others = [s for cond, s in zip(conds, shares, strict=True) if DEFAULT_CONDITION not in cond and s is not None]
    room = torch.relu(1 - sum(others, torch.zeros_like(x[:, :1])))
    return [s if s is None or DEFAULT_CONDITION not in cond else room for cond, s in zip(conds, shares, strict=True)]


def _share(cond: dict, x: Tensor, timestep: Tensor) -> Tensor | None:
    """Return what the host weighs the condition's own prediction by, spread over the whole latent."""
    weighed = {name: value for name, value in cond.items() if name != "gligen"}  # which would set up its model
    found = comfy.samplers.get_area_and_mult({**weighed, "model_conds": {}}, x, timestep)
    if found is None or found.area is None:
        return found and found.mult[:, :1]
    height, width, top, left = found.area
    share = torch.zeros_like(x[:, :1])
    share[..., top : top + height, left : left + width] = found.mult[:, :1]
    return share


def _with_share(cond: dict, share: Tensor) -> dict:
    """Return the condition with these weights, for this step; its area stays what the model sees."""
    replaced = (DEFAULT_CONDITION, "timestep_start", "timestep_end", "strength", "mask_strength")
    return {**{name: value for name, value in cond.items() if name not in replaced}, "mask": share[:, 0]}


def _with_value(cond: dict, value) -> dict:
    own = {name: part for name, part in cond["model_conds"].items() if value is None or name != POOLED}
    return {**cond, "model_conds": own if value is None else {**own, POOLED: value}}


def _text(positives: Conds, share: Tensor | None = None) -> PooledText:
    ids = frozenset(cond["uuid"] for cond in positives if "uuid" in cond)
    return PooledText(pooled_of(positives[0]), ids, share)


def _alike(acting: list[tuple[dict, Tensor]]) -> list[list[tuple[dict, Tensor]]]:
    groups: list[list[tuple[dict, Tensor]]] = []
    for cond, share in acting:
        own = next((group for group in groups if _are_equal(pooled_of(group[0][0]), pooled_of(cond))), None)
        if own is None:
            groups.append(own := [])
        own.append((cond, share))
    return groups


def _are_equal(one, other) -> bool:
    if one is other or one is None or other is None:
        return one is other
    return one.cond is other.cond or torch.equal(one.cond, other.cond)
