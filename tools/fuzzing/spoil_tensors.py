"""Well-formed files of tensors that are not an adapter's, or not quite.

What befalls their parts may befall a header's entries and an archive's members too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis.strategies import DrawFn, SearchStrategy, builds, integers, permutations, sampled_from
from torch import Tensor

from fuzzing.valid_files import serialised, tensors

Parts = list[tuple[str, Any]]
Changes = SearchStrategy[Callable[[Any], Any]]

PARTS = ("dropped", "renamed", "replaced", "replaced", "replaced", "doubled", "swapped")
WAYS = (*PARTS, *PARTS, "very many")
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


def changed(draw: DrawFn, way: str, parts: Parts, called: Callable[[str], str], made: Callable[[Any], Any]) -> Parts:
    """Let some of the parts befall what `way` says: one of them, those that are called alike, or all.

    called, made: what gives a name's odd successor, and a value's.
    """
    chosen = _chosen(draw, [name for name, _ in parts])
    others, these = ([part for part in parts if (part[0] in chosen) is which] for which in (False, True))
    if way == "dropped":
        return others
    if way == "swapped":
        moved = draw(permutations([value for _, value in these]))
        return [*others, *((name, value) for (name, _), value in zip(these, moved, strict=True))]
    new = [
        (name if way == "replaced" else called(name), value if way == "renamed" else made(value))
        for name, value in these
    ]
    if way == "doubled":
        return draw(sampled_from(([*parts, *new], [*new, *parts])))
    return [*others, *new]


def _chosen(draw: DrawFn, names: list[str]) -> list[str]:
    name, size = draw(sampled_from(names)), draw(integers(1, 3))
    front, end = ".".join(name.split(".")[:-size]), ".".join(name.split(".")[-size:])
    inside = [other for other in names if other.startswith(front)]
    outside = [other for other in names if other not in inside] or names
    return draw(sampled_from(([name], [name], [name], inside, outside, [n for n in names if n.endswith(end)], names)))


def _renumbered(name: str, place: int, number: str) -> str:
    parts = name.split(".")
    places = [i for i, part in enumerate(parts) if part.isdigit()] or [0]
    parts[places[place % len(places)]] = number
    return ".".join(parts)


TENSOR_NAMES: Changes = sampled_from((0, -1)).flatmap(
    lambda place: sampled_from(NUMBERS).map(lambda number: lambda name: _renumbered(name, place, number))
) | sampled_from(STRANGERS).map(lambda stranger: lambda name: stranger)


def _resized(axis: int, times: float) -> Callable[[Tensor], Tensor]:
    def resized(one: Tensor) -> Tensor:
        one = one if one.ndim else one[None]
        size = one.shape[axis]
        return one.index_select(axis, torch.arange(int(size * times)) % max(size, 1))

    return resized


TENSOR_VALUES: Changes = (
    sampled_from(RESHAPED)
    | sampled_from(DTYPES).map(lambda dtype: lambda one: one.to(dtype))
    | builds(_resized, sampled_from((-1, 0)), sampled_from((0, 0.5, 2)))
    | sampled_from((float("nan"), float("inf"), 65504.0, 0.0)).map(lambda number: lambda one: one * 0 + number)
    | sampled_from(HUGE).map(lambda sizes: lambda one: torch.empty_strided(sizes, [0] * len(sizes), dtype=one.dtype))
)


def spoilt(draw: DrawFn, way: str, file: str, container: str) -> bytes:
    named = tensors(file)
    if way == "very many":
        named |= {f"{min(named)}.{i}": torch.zeros(()) for i in range(draw(sampled_from((20, 400))))}
    else:
        named = dict(changed(draw, way, list(named.items()), draw(TENSOR_NAMES), draw(TENSOR_VALUES)))
    return serialised(file, named, container)
