"""Well-formed files of tensors that are not an adapter's, or not quite."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from fuzzing.seeds import DTYPES, Tensors

NUMBERS = ("99", "999999999", "1" * 30, "9" * 5000, "-1", "01", "\u0663", "")
STRANGERS = (
    "lora_unet_down.lora_up.weight",
    "model.diffusion_model.out.weight",
    "visual.conv1.weight",
    "decoder.conv_in.weight",
    "image_proj.layers.5.0.to_q.weight",
    "image_proj.proj_new_input.weight",
    "image_proj.perceiver_resampler.layers.700000000.0.to_q.weight",
    "ip_adapter.1.to_q_lora.down.weight",
    "ip_adapter.3.to_k_ip.weight",
    "ip_adapter.99999999.to_k_ip.weight",
    "unet.x",
    "a" * 50_000,
    "\x1b[2J",
    "",
)


def pick(rng: random.Random, tensors: Tensors) -> str:
    return rng.choice(sorted(tensors))


def dropped(rng: random.Random, tensors: Tensors) -> None:
    for _ in range(rng.choice((1, 1, 2, len(tensors)))):
        tensors.pop(pick(rng, tensors))
        if len(tensors) == 0:
            return


def one_part(rng: random.Random, tensors: Tensors) -> None:
    prefix = pick(rng, tensors).rsplit(".", rng.randrange(1, 4))[0]
    keep = rng.random() < 0.5
    for name in [name for name in tensors if name.startswith(prefix) != keep]:
        tensors.pop(name)


def renumbered(rng: random.Random, tensors: Tensors) -> None:
    """Change a number in one name, or in all names that share it."""
    name = pick(rng, {name: t for name, t in tensors.items() if any(map(str.isdigit, name))} or tensors)
    parts = name.split(".")
    places = [i for i, part in enumerate(parts) if part.isdigit()] or [0]
    place, number = rng.choice(places), rng.choice(NUMBERS)
    begin = ".".join(parts[: place + 1]) + "."
    new = ".".join([*parts[:place], number]) + "."
    moved = [name] if rng.random() < 0.5 else [n for n in tensors if n.startswith(begin)]
    for one in moved:
        tensors[new + one[len(begin) :]] = tensors.pop(one)


def strangers(rng: random.Random, tensors: Tensors) -> None:
    for _ in range(rng.choice((1, 2, 5))):
        tensors[rng.choice(STRANGERS)] = tensors[pick(rng, tensors)] if tensors else torch.zeros(2)


def many(rng: random.Random, tensors: Tensors) -> None:
    tensors.update({f"{pick(rng, tensors)}.{i}": torch.zeros(()) for i in range(rng.choice((20, 100, 400)))})


def numbers(rng: random.Random, tensors: Tensors) -> None:
    """Put in NaN, infinity and the largest numbers."""
    name = pick(rng, tensors)
    spoilt = tensors[name].clone()
    value = rng.choice((float("nan"), float("inf"), -float("inf"), 65504.0, 0.0))
    spoilt.view(-1)[: rng.choice((1, spoilt.numel()))] = value
    tensors[name] = spoilt


def dtype(rng: random.Random, tensors: Tensors) -> None:
    """Change the dtype of one tensor or of all."""
    other = rng.choice(list(DTYPES.values()))
    for name in sorted(tensors) if rng.random() < 0.5 else [pick(rng, tensors)]:
        tensors[name] = tensors[name].to(other)


def empty(rng: random.Random, tensors: Tensors) -> None:
    """Take the numbers out of tensors, one or all; the other dimensions stand."""
    for name in sorted(tensors) if rng.random() < 0.3 else [pick(rng, tensors)]:
        shape = list(tensors[name].shape) or [0]
        shape[rng.randrange(len(shape))] = 0
        tensors[name] = torch.empty(shape, dtype=tensors[name].dtype)


def empty_and_huge(rng: random.Random, tensors: Tensors) -> None:
    """Make a tensor of no bytes whose other dimension is beyond any memory."""
    name = pick(rng, tensors)
    shape = [0, rng.choice((2**31, 2**40, 2**60)), 1][: max(2, tensors[name].ndim)]
    rng.shuffle(shape)
    tensors[name] = torch.empty_strided(shape, [0] * len(shape), dtype=tensors[name].dtype)


def shape(rng: random.Random, tensors: Tensors) -> None:
    name = pick(rng, tensors)
    one = tensors[name]
    rows = max(1, len(one) // 2) if one.ndim else 1
    tensors[name] = rng.choice(
        (
            lambda: one.mT if one.ndim > 1 else one[None],
            lambda: one.reshape(-1),
            lambda: one.reshape(1, -1),
            lambda: one.reshape(-1)[0],
            lambda: torch.cat([one, one]) if one.ndim else one,
            lambda: one[:rows] if one.ndim else one,
            lambda: one[..., :1] if one.ndim else one,
            lambda: one[(None,) * rng.choice((1, 4, 20))],
        )
    )().contiguous()


def related(rng: random.Random, tensors: Tensors) -> None:
    """Let all tensors that end alike lose or gain columns or rows together, as a file of other sizes has them."""
    end = rng.choice((".".join(pick(rng, tensors).split(".")[-2:]), "_ip.weight"))
    columns, more = rng.random() < 0.6, rng.random() < 0.5
    for name, one in tensors.items():
        if name.endswith(end) and one.ndim:
            axis = -1 if columns else 0
            half = one.narrow(axis, 0, max(1, one.shape[axis] // 2))
            tensors[name] = torch.cat([one, one], axis) if more else half.contiguous()


def swapped(rng: random.Random, tensors: Tensors) -> None:
    one, other = pick(rng, tensors), pick(rng, tensors)
    tensors[one], tensors[other] = tensors[other], tensors[one]


SPOILT: dict[str, Callable[[random.Random, Tensors], None]] = {
    "tensors: some dropped": dropped,
    "tensors: one part only": one_part,
    "tensors: numbered otherwise": renumbered,
    "tensors: strangers": strangers,
    "tensors: very many": many,
    "tensors: NaN, infinity": numbers,
    "tensors: dtype": dtype,
    "tensors: empty": empty,
    "tensors: empty and huge": empty_and_huge,
    "tensors: shape": shape,
    "tensors: related shapes": related,
    "tensors: swapped": swapped,
}
