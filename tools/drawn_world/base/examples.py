"""What the base is trained on: scenes' latents, and captions of them.

Drawings stand on whole patches and the encoder looks at one patch alone, so a drawing's latents on a ground are made
once. The text encoder is trained to give a sense's code where a word has one and zeros elsewhere, so here captions are
just these codes and zeros, and the text encoder need not be there.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from drawn_world.autoencoder.components import PATCH, Components
from drawn_world.base.model import FILLED, STATES
from drawn_world.encoders.text import BLANK_HEIGHT, BLANKS, CODE, code_of
from drawn_world.pictures.drawing import draw, ground
from drawn_world.pictures.scenes import BIG, BIG_PLACES, CORNERS, NATURAL, SMALL, Scene, random_scene
from drawn_world.words.captions import random_told
from drawn_world.words.senses import Sense

CHECKS = 2 * 16  # pixels after which every ground repeats


class Latents:
    """Latents of scenes, from parts that are kept."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self.parts: dict[tuple, Tensor] = {}

    def of(self, scene: Scene) -> Tensor:
        """[16, 12, 12]"""
        latents = self.ground(scene.ground).clone()
        for concept, place in zip(scene.concepts, scene.places, strict=True):
            part = self.part(Scene((concept,), scene.style, scene.tint, (place,), scene.ground))
            y, x, side = patches_of_place(place)
            latents[:, y : y + side, x : x + side] = part
        return latents.float()

    def ground(self, name: str) -> Tensor:
        if (name,) not in self.parts:
            self.parts[name,] = self.components.encode(ground(name)[None])[0].half()
        return self.parts[name,]

    def part(self, scene: Scene) -> Tensor:
        """Those of one drawing's square; alike at places where the ground is alike."""
        (place,), (concept,) = scene.places, scene.concepts
        left, top = {**BIG_PLACES, **CORNERS}[place]
        phase = (left + top) % CHECKS if scene.ground == "checks" else 0
        key = (concept, scene.style, scene.tint, place in BIG_PLACES, scene.ground, phase)
        if key not in self.parts:
            y, x, side = patches_of_place(place)
            whole = self.components.encode(draw(scene)[None])[0]
            self.parts[key] = whole[:, y : y + side, x : x + side].half()
        return self.parts[key]


def patches_of_place(place: str) -> tuple[int, int, int]:
    """Top, left and side, in patches."""
    (left, top), side = (BIG_PLACES[place], BIG) if place in BIG_PLACES else (CORNERS[place], SMALL)
    return top // PATCH, left // PATCH, side // PATCH


def senses_of(scene: Scene, told: Collection[str]) -> list[tuple[Sense, bool]]:
    """What a caption that tells these attributes means, and whether it is of the second drawing."""
    senses = [(("style", scene.style), False)] if "style" in told else []
    if "tint" in told and scene.tint != NATURAL:
        senses.append((("tint", scene.tint), False))
    if "size" in told:
        senses.append((("size", "big" if scene.places[0] in BIG_PLACES else "small"), False))
    for number in range(len(scene.concepts)):
        second = number == 1
        senses += [(("concept", scene.concepts[number]), second)] if "concepts" in told else []
        senses += [(("place", scene.places[number]), second)] if "places" in told else []
    return senses + ([(("ground", scene.ground), False)] if "ground" in told else [])


def states_of(captions: Sequence[Sequence[tuple[Sense, bool]]]) -> Tensor:
    """Captions as the text encoder gives them: a state for each sense, zeros, and the marks of blanks."""
    states = torch.zeros(len(captions), STATES, FILLED)
    states[:, -BLANKS:, -BLANKS:] = BLANK_HEIGHT * torch.eye(BLANKS)
    for row, senses in enumerate(captions):
        for place, (sense, second) in enumerate(senses):
            states[row, place, :CODE] = code_of(sense, second)
    return states


def examples(latents: Latents, count: int, drawn: random.Random) -> tuple[Tensor, Tensor]:
    """Latents [B, 16, 12, 12] of random scenes, and their captions' states [B, L, D]."""
    scenes = [random_scene(drawn) for _ in range(count)]
    states = states_of([senses_of(scene, random_told(drawn)) for scene in scenes])
    return torch.stack([latents.of(scene) for scene in scenes]), states
