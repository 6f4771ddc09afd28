"""The passes of one step: which branch runs with which conditioning, and what the host's predictions are made of.

The host hands over lists of conditioning, by no fixed order or number (a guider's cond and uncond, one of
them alone, three of them, or one it made up). Each list is named, and stands for a weighted sum of passes.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..denoisers.rows import Area
from ..guidance.branches import Branch, Branches, HostCoefficients
from .pooled_texts import Conds, pooled_of, pooled_texts, shares_of, with_pooled_texts

POSITIVE, NEGATIVE = "positive", "negative"
POSITIVES = (POSITIVE, "middle")  # DualCFGGuider's second positive
RUN_ORDER = (Branch.IMAGE_ONLY, Branch.EVERYTHING, Branch.FULL, Branch.UNCOND)

NO_ID = uuid.UUID(int=0)


class Pass(NamedTuple):
    """A branch, the name of the list whose text it carries, and of the one whose pooled text it borrows, if any."""

    branch: Branch
    text: str
    pooled: str | None = None


@dataclass(frozen=True)
class Plan:
    """The passes of a step, and the host's lists as sums of them.

    conds: every pass's own conditioning. outputs: for each list of the host, pass -> coefficient.
    """

    conds: Mapping[Pass, Conds]
    outputs: tuple[Mapping[Pass, float] | None, ...]
    branch_of: Mapping[uuid.UUID, Branch]
    area_of: Mapping[uuid.UUID, Area]

    def acts_at(self, x: Tensor, timestep: Tensor) -> bool:
        """Return whether the host has any of it to run for latents x at a noise level."""
        return any(share is not None for conds in self.conds.values() for share in shares_of(conds, x, timestep))

    def combine(self, predictions: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """Combine one prediction a pass, in the order of `conds`, into one a list: zeros for one the host left out."""
        by_pass = dict(zip(self.conds, predictions, strict=True))
        return [torch.zeros_like(like) if output is None else _weighted_sum(output, by_pass) for output in self.outputs]


def plan_passes(
    lists: Sequence[Conds | None],
    known: Mapping[str, Conds],
    coefficients: HostCoefficients | None,
    x: Tensor,
    timestep: Tensor,
) -> Plan:
    """Plan a step for latents x [B, C, h, w] at a noise level, timestep [B].

    lists: what the host asks for. known: the guider's lists by name, where a missing partner is taken from.
    coefficients: None for simple guidance, where a list is one pass.
    """
    names = name_lists(lists, known)
    named = {name: conds for name, conds in zip(names, lists, strict=True) if name is not None and conds is not None}
    available = {**known, **named}
    outputs = tuple(None if name is None else _without_zeros(_output(name, available, coefficients)) for name in names)
    passes = sorted({p for output in outputs if output for p in output}, key=lambda p: RUN_ORDER.index(p.branch))
    texts = {
        p.pooled: pooled_texts(available[p.pooled], available[p.text], x, timestep)
        for p in passes
        if p.pooled is not None
    }
    step = f"{passes} {[sorted(map(str, text.ids)) for own in texts.values() for text in own]}"
    conds = {}
    for p in passes:
        own = available[p.text]
        if p.pooled is not None:
            own = with_pooled_texts(own, texts[p.pooled], x, timestep)
        conds[p] = _under_own_ids(own, f"{p} of {step}")
    return Plan(
        conds=conds,
        outputs=outputs,
        branch_of={cond["uuid"]: p.branch for p, own in conds.items() for cond in own},
        area_of={cond["uuid"]: cond.get("area") and tuple(cond["area"]) for own in conds.values() for cond in own},
    )


def name_lists(lists: Sequence[Conds | None], known: Mapping[str, Conds]) -> list[str | None]:
    """Return for each list the guider's name, or a made-up one, which stands for a negative; None for no list.

    A list is the guider's when it is the same object, or a copy with the same conditions: single
    conditions cannot tell, since area conditioning puts copies of a positive one into the negative.
    """
    names: list[str | None] = []
    for number, conds in enumerate(lists):
        same = [name for name, own in known.items() if conds is own]
        alike = [name for name, own in known.items() if conds is not None and _uuids(conds) == _uuids(own)]
        names.append(None if conds is None else (same + alike + [f"unknown {number}"])[0])
    return names


def _output(name: str, available: Mapping[str, Conds], coefficients: HostCoefficients | None) -> dict[Pass, float]:
    if name in POSITIVES:
        if coefficients is None or NEGATIVE not in available:
            return {Pass(Branch.FULL, name): 1.0}
        return _ladder(coefficients.cond, name, available)
    if coefficients is None or POSITIVE not in available or NEGATIVE not in available:
        return {Pass(Branch.UNCOND, name): 1.0}
    output = _ladder(coefficients.uncond, POSITIVE, available)
    if name != NEGATIVE:  # a further negative: the ladder's foot moves to it
        output[Pass(Branch.UNCOND, NEGATIVE)] -= 1.0
        output[Pass(Branch.UNCOND, name)] = 1.0
    return output


def _ladder(coefficients: Branches[float], positive: str, available: Mapping[str, Conds]) -> dict[Pass, float]:
    pooled = positive if any(pooled_of(cond) is not None for cond in available[positive]) else None
    passes = Branches(
        full=Pass(Branch.FULL, positive),
        everything=Pass(Branch.EVERYTHING, NEGATIVE, pooled),
        image_only=Pass(Branch.IMAGE_ONLY, NEGATIVE, pooled),
        uncond=Pass(Branch.UNCOND, NEGATIVE),
    )
    return {passes[branch]: value for branch, value in coefficients.items()}


def _without_zeros(output: dict[Pass, float]) -> dict[Pass, float]:
    return {key: value for key, value in output.items() if value != 0}


def _weighted_sum(output: Mapping[Pass, float], predictions: Mapping[Pass, Tensor]) -> Tensor:
    parts = (predictions[key] if value == 1 else value * predictions[key] for key, value in output.items())
    return cast(Tensor, sum(parts))  # 0 for no parts, but a list has some


def _under_own_ids(conds: Conds, name: str) -> Conds:
    """Return the conditions of a pass under ids of their own, by which the rows of a batch are told apart.

    name: the pass's among a step's. It is the same in every step of the same passes with the same pooled texts, since
    the host's EasyCache finds its results of earlier steps by ids, and takes it that all of a step's are there when one
    is.
    """
    return [
        {**cond, "uuid": uuid.uuid5(cond.get("uuid", NO_ID), f"{number} {name}")} for number, cond in enumerate(conds)
    ]


def _uuids(conds: Conds) -> set:
    return {cond.get("uuid") for cond in conds}
