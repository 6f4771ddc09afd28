"""A second device, played by the CPU: to PyTorch it is another one, so an operation on tensors of both raises.

It has the type "played". Its tensors hold CPU tensors and compute with them, so numbers come out as on the CPU; in
any thread. As on a real device, numbers without dimensions may come from the CPU, and so may indices.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("played")
PLAYED = torch.device("played", 0)
# It draws nothing at random. Torch asks every device of it, and of autocast, for the rest of the process.
torch.played.get_rng_state = lambda device: torch.empty(0, dtype=torch.uint8)
torch.played.set_rng_state = lambda state, device: None
torch.played.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]

COPIED = {torch.ops.aten.copy_.default: 1, torch.ops.aten._to_copy.default: 0}  # which argument
INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)

_counting = threading.local()


class PlayedTensor(Tensor):
    """Holds a CPU tensor, and says that it lies on the played device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), device=PLAYED, **layout)

    def __init__(self, held: Tensor):
        self.held = held

    def tolist(self) -> list:
        return self.held.tolist()

    def __repr__(self) -> str:
        return f"PlayedTensor({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if _is_made_of_others(operation):
            return operation.decompose(*args, **kwargs)  # in inference mode PyTorch leaves that to us
        if operation is torch.ops.aten._has_compatible_shallow_copy_type.default:  # a module that is moved asks
            return False
        device = kwargs.pop("device", None) or (args[0].device if isinstance(args[0], Tensor) else PLAYED)
        if operation not in COPIED:
            _check_together(operation, args)
        elif args[COPIED[operation]].device != device:
            _count(args[COPIED[operation]])
        found = operation(*_held(args), **{name: _held(value) for name, value in kwargs.items()})
        return _played(found) if device == PLAYED else found


@functools.cache
def _is_made_of_others(operation) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")


def _held(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_held, value))
    return value.held if isinstance(value, PlayedTensor) else value


def _played(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_played, value))
    return PlayedTensor(value) if isinstance(value, Tensor) else value


def _check_together(operation, args: tuple) -> None:
    values = args[:1] if operation in INDEXED else itertools.chain(*(x if isinstance(x, list) else [x] for x in args))
    for value in values:
        if isinstance(value, Tensor) and value.ndim and not isinstance(value, PlayedTensor):
            raise RuntimeError(f"All tensors of {operation} were expected on {PLAYED}; one is on {value.device}.")


def _count(copied: Tensor) -> None:
    shapes = getattr(_counting, "shapes", None)
    if shapes is not None:
        shapes.append(tuple(copied.shape))


@contextlib.contextmanager
def copies_between_devices(shapes: list[tuple[int, ...]]) -> Iterator[None]:
    """The shape of each tensor that this thread copies from one device to the other is added to `shapes`."""
    before = getattr(_counting, "shapes", None)
    _counting.shapes = shapes
    try:
        yield
    finally:
        _counting.shapes = before


_library = torch.library.Library("aten", "IMPL")


def _empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return PlayedTensor(torch.empty(size, dtype=dtype))


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return PlayedTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _count(source)
    (target.held if isinstance(target, PlayedTensor) else target).copy_(
        source.held if isinstance(source, PlayedTensor) else source
    )
    return target


for _name, _function in {
    "empty.memory_format": _empty,
    "empty_strided": _empty_strided,
    "_copy_from": _copy_from,
}.items():
    _library.impl(_name, _function, "PrivateUse1")
