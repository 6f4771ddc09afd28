"""How the world's adapters begin to read pictures and texts.

A real image encoder knows much of pictures, a drawn one nothing: its states are mostly the same for all pictures, and
its places have nothing to do with their neighbours. So the first layer stands in for that knowledge: before the
lessons, which are about instructions, it is fitted to tell place, outline, colour, size and pattern of what a patch
shows as far as a linear layer can. For what is left, and for texts, it reads the directions in which states differ.
With drawn weights instead, learning to look past what is common took longer than all the rest.

N pictures or texts, P places (257 or 77), D = 1280 or 768, K numbers to tell.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from small_world.captions import random_caption
from small_world.drawing import draw
from small_world.lessons import resampler_states
from small_world.phrasings import trained
from small_world.references import References, drawing_of
from small_world.scenes import ATTRIBUTES, TASKS, Scene, scene_to_learn
from small_world.short_texts import ShortTexts

PICTURES = TEXTS = 256
PATCHES, WAVES = 16, 4  # along a side of a picture
COLOURED = 0.3  # in saturation: things are, backgrounds are not
OF_THINGS = ("colour", "size")
RIDGE = 1e-3


def first_layer(states: Tensor, width: int, told: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weight [width, D] and bias [width] that turn states [N, P, D] into numbers of mean 0 and about variance 1.

    told [N, P, K]: what the last K of them should be. The others are uncorrelated.
    """
    places = states.mean(0)  # [P, D]
    mean = places.mean(0)
    contents = (states - places).flatten(0, 1)
    count = 0 if told is None else told.shape[-1]
    beside_places = torch.linalg.svd(places - mean, full_matrices=False).Vh  # what differs between places
    weight = directions(contents - contents @ beside_places.T @ beside_places, width - count)
    if told is not None:
        weight = torch.cat([weight, readers((states - mean).flatten(0, 1), told.flatten(0, 1))])
    return weight, -(weight @ mean)


def directions(rows: Tensor, count: int) -> Tensor:
    """The main directions of rows [M, D] of mean 0, [count, D], each divided by its spread."""
    spreads, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    spreads, axes = spreads.flip(0)[:count], axes.flip(1)[:, :count]
    return (axes / spreads.clamp(min=1e-8).sqrt()).T


def readers(rows: Tensor, told: Tensor) -> Tensor:
    """[K, D] with which rows [M, D] of mean 0 come nearest to `told` [M, K], each divided by its spread."""
    products = rows.T @ rows / len(rows)
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    fitted = torch.linalg.solve(products, rows.T @ (told - told.mean(0)) / len(rows)).T
    return fitted / (rows @ fitted.T).square().mean(0).sqrt().clamp(min=1e-8)[:, None]


def patches_of(scenes: Sequence[Scene], pictures: Sequence[np.ndarray]) -> Tensor:
    """What there is to tell of every patch, and of the class token, [N, 257, K]."""
    things = torch.stack([is_thing(torch.from_numpy(picture)) for picture in pictures])
    covered = per_patch(things)
    of_things = [covered * one_hot(scenes, name)[:, None] for name in OF_THINGS]
    pattern = one_hot(scenes, "pattern")[:, None].expand(-1, PATCHES**2, -1)
    told = F.pad(torch.cat([covered, *of_things, outlines(things), pattern], -1), (0, 0, 1, 0))
    return torch.cat([told, waves(PATCHES, WAVES).expand(len(told), -1, -1)], -1)


def is_thing(picture: Tensor) -> Tensor:
    """1 where pixels of a picture [64, 64, 3] are of things, else 0, [64, 64]."""
    most, least = picture.amax(-1), picture.amin(-1)
    return ((most - least) / most.clamp(min=1e-6) > COLOURED).float()


def outlines(things: Tensor) -> Tensor:
    """How things [N, 64, 64] lie in and around each patch, [N, 256, 9].

    How much more of each quarter is covered than of the whole patch, how much of the patch and its neighbours, and
    how much edge there is across each of four directions.
    """
    quarters = F.adaptive_avg_pool2d(things, 2 * PATCHES).unflatten(2, (PATCHES, 2)).unflatten(1, (PATCHES, 2))
    quarters = quarters.transpose(2, 3).flatten(3).flatten(1, 2)
    side = things.shape[-1] // PATCHES
    around = F.avg_pool2d(things, 3 * side, side, side).flatten(1)[..., None]
    beside = F.pad(things, (1, 1, 1, 1), "replicate")
    right = (beside[:, 1:-1, 2:] - beside[:, 1:-1, :-2]) / 2
    down = (beside[:, 2:, 1:-1] - beside[:, :-2, 1:-1]) / 2
    edges = [per_patch(across.abs()) for across in (right, down, right + down, right - down)]
    return torch.cat([quarters - per_patch(things), around, *edges], -1)


def per_patch(pixels: Tensor) -> Tensor:
    """[N, 64, 64] -> [N, 256, 1]"""
    return F.adaptive_avg_pool2d(pixels, PATCHES).flatten(1)[..., None]


def one_hot(scenes: Sequence[Scene], name: str) -> Tensor:
    """[N, values of the attribute]"""
    values = ATTRIBUTES[name]
    return F.one_hot(torch.tensor([values.index(scene.attributes[name]) for scene in scenes]), len(values)).float()


def waves(side: int, count: int) -> Tensor:
    """[side * side + 1, count * count]: smooth functions over a square of patches, behind the class token's place.

    The first, which would be the same everywhere, tells the class token from the patches.
    """
    at = (torch.arange(side) + 0.5) / side
    along = torch.cos(math.pi * at[:, None] * torch.arange(count))  # [side, count]
    over = torch.einsum("yk,xl->yxkl", along, along).reshape(side * side, count * count)
    over = F.pad(over, (0, 0, 1, 0))
    over[0, 0], over[1:, 0] = side, 0.0
    return over / over.square().mean(0).sqrt()


def first_layers(references: References, texts: ShortTexts, width: int) -> dict[str, Tensor]:
    """The resampler's first layers, by their names in it: of pictures, of instructions, and of prompts."""
    drawn = random.Random("texts of the first layers")
    instructions = [phrasing for task in TASKS for phrasing in trained(task)]
    prompts = [random_caption(scene_to_learn(drawn), drawn) for _ in range(TEXTS)]
    scenes, drawn = references.scenes[:PICTURES], drawing_of(references)
    pictures = [draw(scene, drawn) for scene in scenes]
    read = {
        "proj_in": (references.hidden_states(range(len(scenes))).float(), patches_of(scenes, pictures)),
        "proj_new_input": (resampler_states(texts.encode(instructions).states), None),
        "proj_prompt_input": (resampler_states(texts.encode(prompts).states), None),
    }
    layers = {}
    for name, (states, told) in read.items():
        layers[f"{name}.weight"], layers[f"{name}.bias"] = first_layer(states, width, told)
    return layers
