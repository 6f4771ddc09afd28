"""What the world's adapters are tried on: held-out references, each with an instruction and a prompt.

The prompt's scene differs from the reference's in every attribute, and the prompt tells all of it but what the
instruction asks for, or, contradicting the instruction, all of it. So each attribute of a picture that comes out is
the reference's, the prompt's, or neither's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from small_world.captions import caption
from small_world.drawing import draw
from small_world.phrasings import PLAIN, held_out
from small_world.reader import Seen
from small_world.scenes import ATTRIBUTES, TASKS, Scene, held_out_scene, scene_of

HELD_OUT, PLAINLY = "held-out phrasings", "the plain instruction"


@dataclass(frozen=True)
class Condition:
    """picture: of the reference, [64, 64, 3] in 0..1."""

    task: str
    reference: Scene
    prompt: Scene
    instruction: str
    text: str
    picture: np.ndarray


def conditions(task: str, count: int, phrasing: str = HELD_OUT, contradicting: bool = False) -> list[Condition]:
    """The same ones for the same task; only the instructions differ with the phrasing, and the prompts' words."""
    drawn = random.Random(f"conditions for {task}")
    made = []
    for number in range(count):
        reference = held_out_scene(drawn)
        prompt = unlike(reference, drawn)
        told = [name for name in ATTRIBUTES if contradicting or name not in TASKS[task]]
        text = caption(prompt, told, random.Random(f"prompt {number} for {task}"))
        said, picture = drawn.choice(held_out(task)), draw(reference, drawn)
        instruction = said if phrasing == HELD_OUT else PLAIN[task]
        made.append(Condition(task, reference, prompt, instruction, text, picture))
    return made


def unlike(scene: Scene, drawn: random.Random) -> Scene:
    """A scene of one thing that differs in every attribute."""
    own = scene.attributes
    return scene_of({n: drawn.choice([v for v in values if v != own[n]]) for n, values in ATTRIBUTES.items()})


@dataclass(frozen=True)
class Outcome:
    """Shares of pictures, by attribute: in which it is the reference's, and in which it is the prompt's."""

    task: str
    count: int
    of_reference: dict[str, float]
    of_prompt: dict[str, float]

    @property
    def asked(self) -> float:
        """How often what was asked for came from the reference; the least of its attributes."""
        return min(self.of_reference[name] for name in TASKS[self.task])

    @property
    def others(self) -> float | None:
        """How often what was not asked for came from the prompt; the least of these attributes, None without any."""
        rest = [self.of_prompt[name] for name in ATTRIBUTES if name not in TASKS[self.task]]
        return min(rest) if rest else None

    @property
    def leak(self) -> float | None:
        """How often what was not asked for came from the reference all the same; the most of these attributes."""
        rest = [self.of_reference[name] for name in ATTRIBUTES if name not in TASKS[self.task]]
        return max(rest) if rest else None


def outcome(tried: Sequence[Condition], seen: Sequence[Seen]) -> Outcome:
    """Of conditions of one task, and of what is seen in the pictures that came of them."""

    def shares(whose: str) -> dict[str, float]:
        pairs = list(zip(tried, seen, strict=True))
        return {
            name: float(np.mean([s.attributes[name] == getattr(c, whose).attributes[name] for c, s in pairs]))
            for name in ATTRIBUTES
        }

    return Outcome(tried[0].task, len(tried), shares("reference"), shares("prompt"))
