"""What runs inside the pack's attention, counted."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator

from ipadapter_instruct.models.denoisers.cross_attention_patch import CrossAttentionPatch
from ipadapter_instruct.models.denoisers.joint_attention_patch import JointImageAttention
from torch.utils._python_dispatch import TorchDispatchMode

CALLS = "attention calls"


class _Counting(TorchDispatchMode):
    """How often torch runs each operation. A `to` that has nothing to do is none."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name != "to" or result.data_ptr() != args[0].data_ptr():
            self.counts[name] += 1
        return result


def patch_class(family: str) -> type:
    """What computes the attention to image tokens at a site."""
    return JointImageAttention if family == "sd3" else CrossAttentionPatch


@contextlib.contextmanager
def operations(family: str) -> Iterator[collections.Counter]:
    """The operations of all calls of the attention until the end, and how many calls there are."""
    attention = patch_class(family)
    original, counting = attention.__call__, _Counting()

    def call(self, *args, **kwargs):
        with counting:
            counting.counts[CALLS] += 1
            return original(self, *args, **kwargs)

    attention.__call__ = call
    try:
        yield counting.counts
    finally:
        attention.__call__ = original
