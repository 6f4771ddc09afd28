"""The two sides of guidance, as other packs are told them: 0 is the positive, 1 the negative.

The host numbers the lists of a step. A three-way step has up to four of them, while other packs index pairs with the
numbers, or take 1 for the negative.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from ..guidance.branches import Branch
from .pooled_texts import Conds

BranchOf = Mapping[UUID, Branch]
SIDES = "cond_or_uncond"  # the host's number of each chunk's list


def sides_of(branches: Sequence[Branch]) -> list[int]:
    """Return the side of each branch."""
    return [0 if branch.is_conditional else 1 for branch in branches]


def wrapper_with_sides(wrapper: Callable, branch_of: BranchOf) -> Callable:
    """Return another pack's model function wrapper as one that is told sides.

    branch_of: each condition's, by its id.
    """

    def told(apply_model: Callable, args: dict):
        options = args["c"]["transformer_options"]
        sides = _sides(branch_of, options)
        own = {**args["c"], "transformer_options": {**options, SIDES: sides}}
        return wrapper(apply_model, {**args, "c": own, SIDES: sides})

    return told


@contextlib.contextmanager
def controls_with_sides(lists: Iterable[Conds], branch_of: BranchOf) -> Iterator[None]:
    """Tell the ControlNets of a step its two sides, for as long as the context lasts.

    lists: the step's conditions. branch_of: each condition's, by its id.
    The objects stay the same, since the host runs conditions in one batch whose ControlNet is the same object.
    """
    controls = {id(c["control"]): c["control"] for conds in lists for c in conds if "control" in c}
    copies = [c for control in controls.values() for c in getattr(control, "multigpu_clones", {}).values()]
    with contextlib.ExitStack() as stack:
        for control in (*controls.values(), *copies):
            stack.callback(_restore, control, vars(control).get("get_control"))
            control.get_control = _control_with_sides(control.get_control, branch_of)
        yield


def _restore(control, own: Callable | None) -> None:
    if own is None:
        del control.get_control
    else:
        control.get_control = own


def _control_with_sides(get_control: Callable, branch_of: BranchOf) -> Callable:
    def told(x, t, cond, batched_number, transformer_options, *args, **kwargs):
        transformer_options[SIDES] = _sides(branch_of, transformer_options)
        return get_control(x, t, cond, batched_number, transformer_options, *args, **kwargs)

    return told


def _sides(branch_of: BranchOf, options: dict) -> list[int]:
    return sides_of([branch_of[i] for i in options["uuids"]])
