"""Well-formed files of tensors that are not an adapter's, or not quite.

What befalls their parts may befall a header's entries and an archive's members too.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from hypothesis.strategies import DrawFn, builds, composite, integers, permutations, sampled_from
from torch import Tensor

from fuzzing.valid_files import serialised, tensors

Parts = Sequence[tuple[str, Any]]

BEFALLS = ("dropped", "renamed", "replaced", "replaced", "replaced", "doubled", "swapped")
NUMBERS = ("99", "999999999", "1" * 30, "9" * 5000, "-1", "01", "\u0663", "")
STRANGERS = (
    *("lora_unet_down.lora_up.weight", "model.diffusion_model.out.weight", "visual.conv1.weight", "decoder.conv_in.x"),
    *("image_proj.layers.5.0.to_q.weight", "image_proj.proj_new_input.weight", "ip_adapter.1.to_q_lora.down.weight"),
    *("image_proj.perceiver_resampler.layers.700000000.0.to_q.weight", "ip_adapter.99999999.to_k_ip.weight"),
    *("ip_adapter.3.to_k_ip.weight", "unet.x", "a" * 50_000, "\x1b[2J", ""),
)
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
# No bytes, with a dimension beyond any memory.
HUGE = [sizes for many in (2**31, 2**40, 2**60) for sizes in ((0, many), (many, 0), (0, many, 1), (many, 1, 0))]
RESHAPED = (
    lambda one: one.mT if one.ndim > 1 else one[None],
    lambda one: one.reshape(-1),
    lambda one: one.reshape(1, -1),
    lambda one: one.reshape(-1)[0],
    lambda one: one[(None,) * 4],
    lambda one: one[(None,) * 20],
)


def changed(draw: DrawFn, parts: Parts, called: Callable[[str], str], made: Callable[[Any], Any]) -> Parts:
    """Let something befall one of the parts, those that are called alike, or all.

    called, made: what gives a name's odd successor, and a value's.
    """
    chosen, way = draw(_alike([name for name, _ in parts])), draw(sampled_from(BEFALLS))
    others, these = ([part for part in parts if (part[0] in chosen) is which] for which in (False, True))
    names, values = [name for name, _ in these], [value for _, value in these]
    if way in ("renamed", "doubled"):
        names = [called(name) for name in names]
    if way in ("replaced", "doubled"):
        values = [made(value) for value in values]
    elif way == "swapped":
        values = draw(permutations(values))
    new = [] if way == "dropped" else list(zip(names, values, strict=True))
    kept = parts if way == "doubled" else others
    return draw(sampled_from(([*kept, *new], [*new, *kept])))


@composite
def _alike(draw: DrawFn, names: list[str]) -> list[str]:
    name, size = draw(sampled_from(names)), draw(integers(1, 3))
    front, end = ".".join(name.split(".")[:-size]), ".".join(name.split(".")[-size:])
    inside = [other for other in names if other.startswith(front)]
    outside = [other for other in names if other not in inside] or names
    return draw(sampled_from(([name], [name], [name], inside, outside, [n for n in names if n.endswith(end)], names)))


def _renumbered(name: str, place: int, number: str) -> str:
    start, end = ([found.span() for found in re.finditer(r"\b\d+\b", name)] or [(0, 0)])[place]
    return name[:start] + number + name[end:]


def _resized(axis: int, times: float, one: Tensor) -> Tensor:
    one = one if one.ndim else one[None]
    return one.index_select(axis, torch.arange(int(one.shape[axis] * times)) % max(one.shape[axis], 1))


TENSOR_NAMES = builds(
    lambda place, number: lambda name: _renumbered(name, place, number), sampled_from((0, -1)), sampled_from(NUMBERS)
) | sampled_from(STRANGERS).map(lambda stranger: lambda name: stranger)
TENSOR_VALUES = (
    sampled_from(RESHAPED)
    | sampled_from(DTYPES).map(lambda dtype: lambda one: one.to(dtype))
    | builds(lambda *by: partial(_resized, *by), sampled_from((-1, 0)), sampled_from((0, 0.5, 2)))
    | sampled_from((float("nan"), float("inf"), 65504.0, 0.0)).map(lambda number: lambda one: one * 0 + number)
    | sampled_from(HUGE).map(lambda sizes: lambda one: torch.empty_strided(sizes, [0] * len(sizes), dtype=one.dtype))
)


def tensors_changed(draw: DrawFn, file: str, container: str) -> bytes:
    new = changed(draw, list(tensors(file).items()), draw(TENSOR_NAMES), draw(TENSOR_VALUES))
    return serialised(file, dict(new), container)


def very_many_tensors(draw: DrawFn, file: str, container: str) -> bytes:
    named = tensors(file)
    more = {f"{min(named)}.{i}": torch.zeros(()) for i in range(draw(sampled_from((20, 400))))}
    return serialised(file, {**named, **more}, container)


SPOILERS = (*(tensors_changed,) * 14, very_many_tensors)
