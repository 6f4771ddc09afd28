"""Pictures from the world's checkpoint, by ComfyUI's loaders and its KSampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from small_world.components import CHANNELS
from small_world.encoders import ENCODERS
from small_world.in_process import comfy

STEPS, CFG, SAMPLER, SCHEDULER = 20, 4.0, "euler", "simple"
LATENT_SIDE = 8
Conditioning = list  # ComfyUI's


@dataclass(frozen=True)
class World:
    """What CheckpointLoaderSimple and CLIPLoader give: ModelPatcher, CLIP and VAE."""

    model: Any
    clip: Any
    vae: Any


def loaded(checkpoint: Path) -> World:
    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_clip=False)
    text = str(ENCODERS["text"].built())
    return World(model, comfy.sd.load_clip([text], clip_type=comfy.sd.CLIPType.SD3), vae)


@torch.inference_mode()
def conditioning(world: World, texts: Sequence[str]) -> Conditioning:
    """Texts as CLIPTextEncode would have them, one for each picture of a batch."""
    encoded = [world.clip.encode_from_tokens(world.clip.tokenize(text), return_pooled=True) for text in texts]
    states, pooled = (torch.cat(parts) for parts in zip(*encoded, strict=True))
    return [[states, {"pooled_output": pooled}]]


@torch.inference_mode()
def sample(
    world: World, positive: Conditioning, negative: Conditioning, seed: int, steps: int = STEPS
) -> list[np.ndarray]:
    """Pictures [64, 64, 3] in 0..1, one for each text of `positive`."""
    count = len(positive[0][0])
    noise = torch.randn(count, CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=torch.Generator().manual_seed(seed))
    latents = comfy.sample.sample(
        world.model,
        noise,
        steps,
        CFG,
        SAMPLER,
        SCHEDULER,
        positive,
        negative,
        torch.zeros_like(noise),
        seed=seed,
        disable_pbar=True,
    )
    return list(decoded(world, latents))


def decoded(world: World, latents: Tensor) -> np.ndarray:
    return world.vae.decode(latents).clamp(0, 1).numpy()
