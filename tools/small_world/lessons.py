"""What the world's adapters learn from: a reference, an instruction, a prompt, and the picture that should come out.

The prompt tells a scene of its own. The target is that scene, with what the instruction asks for taken from the
reference. What the instruction asks for is mostly left out of the prompt, and sometimes contradicted by it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from ipadapter_instruct.models.training.batch import Batch, Conditioning
from torch import Tensor

from small_world.base import CONTEXT, POOLED
from small_world.captions import caption, random_told
from small_world.components import Components
from small_world.drawing import draw
from small_world.phrasings import trained
from small_world.references import References, blank_hidden_states, scenes_to_learn
from small_world.scenes import TASKS, Scene, is_held_out, scene_to_learn, taken
from small_world.short_texts import COPIES, SPELLED, ShortTexts, Texts

CONTRADICTED = 0.25  # of the prompts tell something of what the instruction asks for
PROMPTS = 3000  # a task
PICTURES = 4  # of each scene
AT_ONCE = 100
Phrasings = Mapping[str, Sequence[str]]
TRAINED: Phrasings = {task: trained(task) for task in TASKS}


@dataclass(frozen=True)
class Prompt:
    """A scene and a caption that tells some of it."""

    scene: Scene
    text: str


def prompt_for(task: str, drawn: random.Random) -> Prompt:
    scene, told = scene_to_learn(drawn), random_told(drawn)
    if drawn.random() >= CONTRADICTED:
        told = [name for name in told if name not in TASKS[task]]
    return Prompt(scene, caption(scene, told, drawn))


class WorldLessons:
    """Endless examples of some tasks, with the instructions in `phrasings`."""

    def __init__(self, references: References, components: Components, texts: ShortTexts, phrasings: Phrasings):
        self.references, self.phrasings, self.tasks = references, phrasings, tuple(phrasings)
        self.instructions = {
            text: texts.encode([text]) for task_phrasings in phrasings.values() for text in task_phrasings
        }
        drawn = random.Random("prompts")
        self.prompts = {task: [prompt_for(task, drawn) for _ in range(PROMPTS)] for task in self.tasks}
        self.captions = {task: in_half(encoded(texts, self.prompts[task])) for task in self.tasks}
        self.latents = latents_of_all(components)
        empty = texts.encode([""])
        states = resampler_states(empty.states)
        self.unconditional = Conditioning(
            blank_hidden_states(), states, states, widened(empty.states, CONTEXT), widened(empty.pooled, POOLED)
        )

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        drawn = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        return self.examples([self.example(drawn) for _ in range(count)])

    def example(self, drawn: random.Random) -> tuple[int, str, int, str, Tensor]:
        """A reference's number, a task, a prompt's number, an instruction, and the target's latents."""
        task = drawn.choice(self.tasks)
        number, prompt = drawn.randrange(len(self.references.scenes)), drawn.randrange(PROMPTS)
        target = taken(task, self.references.scenes[number], self.prompts[task][prompt].scene)
        if is_held_out(target):
            return self.example(drawn)
        instruction = drawn.choice(self.phrasings[task])
        return number, task, prompt, instruction, self.latents[target][drawn.randrange(PICTURES)]

    def examples(self, rows: Sequence[tuple[int, str, int, str, Tensor]]) -> Batch:
        numbers, tasks, prompts, instructions, latents = zip(*rows, strict=True)
        told = [self.captions[task] for task in tasks]
        states = torch.stack([text.states[p] for text, p in zip(told, prompts, strict=True)]).float()
        pooled = torch.stack([text.pooled[p] for text, p in zip(told, prompts, strict=True)]).float()
        conditioning = Conditioning(
            image_features=self.references.hidden_states(numbers),
            instruct_embeds=resampler_states(torch.cat([self.instructions[text].states for text in instructions])),
            prompt_embeds=resampler_states(states),
            context=widened(states, CONTEXT),
            pooled_output=widened(pooled, POOLED),
        )
        return Batch(torch.stack(latents).float(), conditioning)


def resampler_states(states: Tensor) -> Tensor:
    """Short states [B, L, 768] as the resampler is given them: after CLIP-L's last norm, [B, 77, 768]."""
    normed = F.layer_norm(states, states.shape[-1:])
    return torch.cat([normed[:, :SPELLED], normed[:, SPELLED:].expand(-1, COPIES, -1)], 1)


def widened(states: Tensor, width: int) -> Tensor:
    """As SD3 has CLIP-L's states: zeros where the other encoders' would be."""
    return F.pad(states, (0, width - states.shape[-1]))


def encoded(texts: ShortTexts, prompts: Sequence[Prompt]) -> Texts:
    starts = range(0, len(prompts), AT_ONCE)
    parts = [texts.encode([prompt.text for prompt in prompts[at : at + AT_ONCE]]) for at in starts]
    return Texts(torch.cat([part.states for part in parts]), torch.cat([part.pooled for part in parts]))


def in_half(texts: Texts) -> Texts:
    return Texts(texts.states.half(), texts.pooled.half())


def latents_of_all(components: Components) -> dict[Scene, Tensor]:
    """Latents of every scene that may be learnt, [PICTURES, 16, 8, 8] each, fp16."""
    drawn = random.Random("targets")
    return {
        scene: components.encode([draw(scene, drawn) for _ in range(PICTURES)]).half() for scene in scenes_to_learn()
    }
