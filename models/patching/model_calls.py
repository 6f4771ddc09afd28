"""The model calls of a step, as other packs see them, and calls in which the adapter has no part.

The host numbers the lists of a step. A three-way step has up to four of them, while other packs index pairs with the
numbers, or take 1 for the negative. So they are told the two sides of guidance: 0 is the positive, 1 the negative.

ComfyUI lets a node put a function in the place of its call of the model. Most call the model in turn; DeepCache and its
kind run the denoiser themselves, past every wrapper, so that an adapter would be left out without a word.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

import torch
from torch import nn

from ..guidance.branches import Branch
from .pooled_texts import Conds

BranchOf = Mapping[UUID, Branch]
FUNCTION_WRAPPER = "model_function_wrapper"
SIDES = "cond_or_uncond"  # the host's number of each chunk's list


class ModelCalls:
    """The calls of the denoiser in one sampling run. Calls may come from several threads.

    were_entered: whether the run has had an `entered` call yet.
    """

    def __init__(self):
        self.were_entered = False
        self._inside = threading.local()
        self._wrapper: object = None

    @contextlib.contextmanager
    def step(self, first_layers: Iterable[nn.Module], wrapper: object) -> Iterator[None]:
        """Let the denoiser run in `entered` calls only, until the end of a step in which an adapter acts.

        first_layers: a layer of each denoiser that every evaluation of it begins with. wrapper: the model function
        wrapper that another node has put there, or None.
        """
        self._wrapper = wrapper
        with contextlib.ExitStack() as stack:
            for layer in first_layers:
                stack.enter_context(layer.register_forward_pre_hook(self._check))
            yield

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Mark a call of the model whose attention is patched, for as long as the context lasts."""
        before = getattr(self._inside, "call", False)
        self._inside.call = self.were_entered = True
        try:
            yield
        finally:
            self._inside.call = before

    def refusal(self, found: str = "gives predictions without calling it") -> ValueError:
        """Return the error for a step whose predictions the adapter has no part in. found: what the other node does."""
        own = self._wrapper
        name = "" if own is None else f", {own.__module__}.{getattr(own, '__qualname__', type(own).__name__)}"
        return ValueError(
            "A call of ComfyUI's model was expected, in which IPAdapter-Instruct can act; another node (a model "
            f"function wrapper of DeepCache's kind{name}) {found}. Bypass that node, or Apply IPAdapter-Instruct."
        )

    def _check(self, *args) -> None:
        if not torch.compiler.is_compiling() and not getattr(self._inside, "call", False):
            raise self.refusal("runs the denoiser itself")


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
