"""The world's text and image encoder: CLIP-L's and ViT-H's shape, with weights from a seed.

They are not trained: a drawn first layer already tells words, their order, colours and places apart, and what learns
on its states can read them. All later layers pass their input on, so that states for training cost the first layer
only; and both files are rebuilt from the seed instead of stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from comfyhost.encoders import clip_l_text, vit_h
from comfyhost.weights import Blueprint, Weight, draw_one
from torch import Tensor

from small_world.storage import save_tensors, world_folder

# The text encoder
WIDTH, HEADS, LENGTH, END = 768, 12, 77, 49407
SPELLED = 32  # positions with an embedding of their own; all later ones share one
MARK = WIDTH - 1  # the channel that only the end token, with which texts are padded too, has something in
MARK_HEIGHT, REPULSION = 8.0, 4.0
SPELT_ALIKE = {3140: 4769}  # color is colour, which a trained encoder knows
MIXED = 2.0  # how much of other words a word's state has, before averaging
# The image encoder
PICTURE_LAYERS = 2  # that do something

TEXT_LAYERS = "text_model.encoder.layers."
PICTURE_TOWER = "vision_model.encoder.layers."


@dataclass(frozen=True)
class Encoder:
    """A file to rebuild: its name in the cache folder and its weights."""

    name: str
    weights: Callable[[], dict[str, Tensor]]

    @property
    def path(self) -> Path:
        return world_folder() / self.name

    def built(self) -> Path:
        """The file, written if it is not there yet."""
        if not self.path.is_file():
            save_tensors(self.weights(), self.path, "drawn from a seed, not trained")
        return self.path


def text_weights(seed: int = 1) -> dict[str, Tensor]:
    """CLIP-L's text tower in transformers' names, fp16."""
    parts = clip_l_text()
    embeddings = "text_model.embeddings."
    parts.put(f"{embeddings}token_embedding.weight", 49408, WIDTH, spread=1.0)
    parts.put(f"{embeddings}position_embedding.weight", LENGTH, WIDTH, spread=0.7)
    parts.linear(f"{TEXT_LAYERS}0.self_attn.out_proj", WIDTH, WIDTH, gain=MIXED)
    weights = drawn(passing_on(parts, TEXT_LAYERS, active=1), seed)
    tokens = weights[f"{embeddings}token_embedding.weight"]
    for token, other in SPELT_ALIKE.items():
        tokens[token] = tokens[other]
    weights[f"{TEXT_LAYERS}0.mlp.fc2.weight"].zero_()
    mark_the_end(weights, embeddings)
    return weights


def mark_the_end(weights: dict[str, Tensor], embeddings: str) -> None:
    """Have the padding say nothing new: its tokens don't look at one another, and past SPELLED all are the same.

    What learns on the states may then take the copies as one token that counts many times, see `short_texts`.
    The first row of each head's queries and keys is for the mark alone, and makes end and end repel.
    """
    tokens, positions = (weights[f"{embeddings}{kind}_embedding.weight"] for kind in ("token", "position"))
    tokens[:, MARK], tokens[END, MARK] = 0.0, MARK_HEIGHT
    positions[:, MARK] = 0.0
    positions[SPELLED:] = positions[SPELLED]
    for projection, sign in (("q", 1), ("k", -1)):
        weight = weights[f"{TEXT_LAYERS}0.self_attn.{projection}_proj.weight"]
        weight[:, MARK] = 0.0
        weight[:: WIDTH // HEADS] = 0.0
        weight[:: WIDTH // HEADS, MARK] = sign * REPULSION


def picture_weights(seed: int = 2) -> dict[str, Tensor]:
    """ViT-H's image tower in transformers' names, fp16."""
    parts = vit_h()
    parts.put("vision_model.embeddings.position_embedding.weight", 257, 1280, spread=0.5)
    for layer in range(PICTURE_LAYERS):
        parts.linear(f"{PICTURE_TOWER}{layer}.self_attn.out_proj", 1280, 1280)
        parts.linear(f"{PICTURE_TOWER}{layer}.mlp.fc2", 4 * 1280, 1280)
    return drawn(passing_on(parts, PICTURE_TOWER, active=PICTURE_LAYERS), seed)


def passing_on(parts: Blueprint, tower: str, active: int) -> Blueprint:
    """The tower with plain norms and without biases, whose layers from `active` on add nothing to their input."""
    return Blueprint({name: simpler(name, weight, tower, active) for name, weight in parts.items()})


def drawn(parts: Blueprint, seed: int) -> dict[str, Tensor]:
    """fp16 tensors, the same for the same seed. What has no spread, most of a tower, takes no time."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: draw_one(weight, generator, torch.float16)
        if weight.spread
        else torch.full(weight.shape, weight.mean, dtype=torch.float16)
        for name, weight in parts.items()
    }


def simpler(name: str, weight: Weight, tower: str, active: int) -> Weight:
    if len(weight.shape) == 1 and not name.endswith("class_embedding"):
        is_scale = "norm" in name and name.endswith("weight")
        return Weight(weight.shape, 0.0, 1.0 if is_scale else 0.0)
    layer = int(name.removeprefix(tower).split(".")[0]) if name.startswith(tower) else 0
    return weight if layer < active else Weight(weight.shape, 0.0)


ENCODERS: Mapping[str, Encoder] = {
    "text": Encoder("clip_l_drawn.safetensors", text_weights),
    "picture": Encoder("image_encoder.safetensors", picture_weights),
}


def main() -> int:
    """Write both files where they are missing."""
    for encoder in ENCODERS.values():
        print(encoder.built())
    return 0


if __name__ == "__main__":
    sys.exit(main())
