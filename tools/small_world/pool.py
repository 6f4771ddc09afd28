"""What the base learns from: scenes' latents and their captions' states, encoded once and kept in shards on disk.

A shard is drawn from its own name, so that the same one can always be made again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from small_world.captions import random_caption
from small_world.components import Components
from small_world.drawing import draw
from small_world.scenes import Scene, scene_to_learn
from small_world.short_texts import ShortTexts, Texts
from small_world.storage import save_tensors, world_folder

SHARD = 2048  # scenes
CAPTIONS = 2  # a scene
PAIRS = 0.12
BATCH = 64


@dataclass(frozen=True)
class Examples:
    """Latents [B, 16, 8, 8] as the denoiser has them, and each one's caption."""

    latents: Tensor
    texts: Texts


class Pool:
    """Examples at random from some shards; those that are missing are made."""

    def __init__(self, components: Components, texts: ShortTexts) -> None:
        self.components, self.texts = components, texts
        self.empty = texts.encode([""])
        self.shards: dict[str, dict[str, Tensor]] = {}

    def examples(self, names: Sequence[str], count: int, dropped: float, generator: torch.Generator) -> Examples:
        """`count` examples from the shards of these names; a share of the captions is replaced by the empty text."""
        numbers = torch.randint(len(names) * SHARD * CAPTIONS, (count,), generator=generator).tolist()
        places = [(self.shard(names[n // (SHARD * CAPTIONS)]), n % (SHARD * CAPTIONS)) for n in numbers]
        states, pooled = (torch.stack([s[part][row] for s, row in places]).float() for part in ("states", "pooled"))
        latents = torch.stack([s["latents"][row // CAPTIONS] for s, row in places]).float()
        empty = torch.rand(count, generator=generator) < dropped
        states[empty], pooled[empty] = self.empty.states, self.empty.pooled
        return Examples(latents, Texts(states, pooled))

    def shard(self, name: str) -> dict[str, Tensor]:
        if name not in self.shards:
            path = shard_path(name)
            if not path.is_file():
                self.make(name, path)
            self.shards[name] = load_file(path)
        return self.shards[name]

    def make(self, name: str, path: Path) -> None:
        drawn = random.Random(name)
        scenes = [scene_to_learn(drawn, PAIRS) for _ in range(SHARD)]
        starts = range(0, SHARD, BATCH)
        latents = [self.components.encode([draw(scene, drawn) for scene in scenes[at : at + BATCH]]) for at in starts]
        texts = [self.texts.encode(captions(scenes[at : at + BATCH], drawn)) for at in starts]
        tensors = {
            "latents": torch.cat(latents),
            "states": torch.cat([text.states for text in texts]),
            "pooled": torch.cat([text.pooled for text in texts]),
        }
        save_tensors({part: tensor.half() for part, tensor in tensors.items()}, path, f"shard {name}")


def shard_path(name: str) -> Path:
    folder = world_folder() / "shards"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.safetensors"


def captions(scenes: Sequence[Scene], drawn: random.Random) -> list[str]:
    return [random_caption(scene, drawn) for scene in scenes for _ in range(CAPTIONS)]
