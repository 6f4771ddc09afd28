"""The two sides of guidance, as other packs are told them: 0 is the positive, 1 the negative.

The host numbers the lists of a step. A three-way step has up to four of them, while other packs index pairs with the
numbers, or take 1 for the negative.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ..branches import Branch
from .passes import Plan

SIDES = "cond_or_uncond"  # the host's number of each chunk's list


def sides_of(branches: Sequence[Branch]) -> list[int]:
    """Return the side of each branch."""
    return [0 if branch.is_conditional else 1 for branch in branches]


def told_wrapper(wrapper: Callable, plan: Plan) -> Callable:
    """Return another pack's model function wrapper as one that is told sides."""
    return partial(_call_wrapper, wrapper, plan)


@contextlib.contextmanager
def told_controls(plan: Plan) -> Iterator[None]:
    """Around a step: its ControlNets are told sides.

    The objects stay the same, since the host runs conditions in one batch whose ControlNet is the same object.
    """
    with contextlib.ExitStack() as stack:
        for control in _controls(plan):
            stack.callback(_restore, control, vars(control).get("get_control"))
            control.get_control = partial(_get_control, control.get_control, plan)
        yield


def _controls(plan: Plan) -> list:
    """Each ControlNet of a step once, and its copies on other devices."""
    controls = {id(c["control"]): c["control"] for conds in plan.conds.values() for c in conds if "control" in c}
    copies = [c for control in controls.values() for c in getattr(control, "multigpu_clones", {}).values()]
    return [*controls.values(), *copies]


def _restore(control, own: Callable | None) -> None:
    if own is None:
        del control.get_control
    else:
        control.get_control = own


def _get_control(get_control: Callable, plan: Plan, x, t, cond, batched_number, transformer_options, *args, **kwargs):
    transformer_options[SIDES] = _sides(plan, transformer_options)
    return get_control(x, t, cond, batched_number, transformer_options, *args, **kwargs)


def _call_wrapper(wrapper: Callable, plan: Plan, apply_model: Callable, args: dict):
    options = args["c"]["transformer_options"]
    sides = _sides(plan, options)
    own = {**args["c"], "transformer_options": {**options, SIDES: sides}}
    return wrapper(apply_model, {**args, "c": own, SIDES: sides})


def _sides(plan: Plan, options: dict) -> list[int]:
    return sides_of([plan.branch_of[i] for i in options["uuids"]])
