"""One step's passes: which branch runs with which conditioning, and what the host's predictions are made of.

The host hands over lists of conditioning, by no fixed order or number (a guider's cond and uncond, one of
them alone, three of them, or one it made up). Each list is named, and stands for a weighted sum of passes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..branches import Branch, Branches
from ..guidance import HostCoefficients
from .masks import Area
from .run import Conds

POSITIVE, NEGATIVE = "positive", "negative"
POSITIVES = (POSITIVE, "middle")  # DualCFGGuider's second positive
RUN_ORDER = (Branch.FULL, Branch.IMAGE_ONLY, Branch.EVERYTHING, Branch.UNCOND)

NO_ID = uuid.UUID(int=0)
POOLED = "y"  # where SDXL's and SD3's conditions keep the pooled text, with SDXL's sizes


class Pass(NamedTuple):
    """A branch, the name of the list whose text it carries, and of the one whose pooled text it borrows, if any."""

    branch: Branch
    text: str
    pooled: str | None = None


@dataclass(frozen=True)
class Plan:
    """conds: every pass's own conditioning. outputs: for each list of the host, pass -> coefficient."""

    conds: Mapping[Pass, Conds]
    outputs: tuple[Mapping[Pass, float] | None, ...]
    branch_of: Mapping[uuid.UUID, Branch]
    area_of: Mapping[uuid.UUID, Area]

    def combine(self, predictions: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """One prediction a pass, in the order of `conds` -> one a list. A list the host left out gives zeros."""
        by_pass = dict(zip(self.conds, predictions, strict=True))
        return [torch.zeros_like(like) if output is None else _weighted_sum(output, by_pass) for output in self.outputs]


def plan_passes(
    lists: Sequence[Conds | None], known: Mapping[str, Conds], coefficients: HostCoefficients | None
) -> Plan:
    """Plan a step.

    lists: what the host asks for. known: the guider's lists by name, where a missing partner is taken from.
    coefficients: None for simple guidance, where a list is one pass.
    """
    named = name_lists(lists, known)
    available = {**known, **{name: conds for name, conds in named if name is not None}}
    outputs = tuple(
        None if name is None else _without_zeros(_output(name, available, coefficients)) for name, _ in named
    )
    passes = sorted({p for output in outputs if output for p in output}, key=lambda p: RUN_ORDER.index(p.branch))
    conds = {p: _own_conds(p, passes, available) for p in passes}
    return Plan(
        conds=conds,
        outputs=outputs,
        branch_of={cond["uuid"]: p.branch for p, own in conds.items() for cond in own},
        area_of={cond["uuid"]: _area(cond) for own in conds.values() for cond in own},
    )


def name_lists(lists: Sequence[Conds | None], known: Mapping[str, Conds]) -> list[tuple[str | None, Conds | None]]:
    """Each list with the guider's name for it, or a made-up one, which stands for a negative.

    A list is the guider's when it is the same object, or a copy with the same conditions: single
    conditions cannot tell, since area conditioning puts copies of a positive one into the negative.
    """
    ids = {name: _uuids(conds) for name, conds in known.items()}
    named = []
    for number, conds in enumerate(lists):
        same = [name for name in known if conds is known[name]]
        alike = [name for name in known if conds is not None and _uuids(conds) == ids[name]]
        named.append((None if conds is None else (same + alike + [f"unknown {number}"])[0], conds))
    return named


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
    pooled = positive if any(_pooled(cond) is not None for cond in available[positive]) else None
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
    return sum(predictions[key] if value == 1 else value * predictions[key] for key, value in output.items())


def _own_conds(wanted: Pass, passes: Sequence[Pass], available: Mapping[str, Conds]) -> Conds:
    """The conditions of a pass under ids of their own, by which the rows of a batch are told apart.

    They are the same in every step of the same `passes`, since the host's EasyCache finds its results of earlier
    steps by them, and takes it that all of a step's are there when one is.
    """
    conds = [
        {**cond, "uuid": uuid.uuid5(cond.get("uuid", NO_ID), f"{wanted} {number} of {passes}")}
        for number, cond in enumerate(available[wanted.text])
    ]
    if wanted.pooled is None:
        return conds
    return [_with_pooled(cond, available[wanted.pooled]) for cond in conds]


def _with_pooled(cond: dict, positives: Conds) -> dict:
    """`cond` with the pooled text of the positive of the same area, else of the first."""
    source = next((p for p in positives if _area(p) == _area(cond)), positives[0])
    return {**cond, "model_conds": {**cond["model_conds"], POOLED: _pooled(source)}}


def _pooled(cond: dict):
    return cond.get("model_conds", {}).get(POOLED)


def _uuids(conds: Conds) -> set:
    return {cond.get("uuid") for cond in conds}


def _area(cond: dict) -> Area:
    area = cond.get("area")
    return None if area is None else tuple(area)
