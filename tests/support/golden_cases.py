"""The golden cases: made-up weights by the recipe of tests/golden/README.md, and what the authors' code makes."""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "golden"

# Which features each branch of a golden case is made of: image, instruct, prompt.
BRANCH_FEATURES = {
    "full": ("image_hidden", "instruct", "prompt"),
    "everything": ("image_hidden", "everything_instruct", "prompt"),
    "image_only": ("image_hidden", "negative_prompt", "negative_prompt"),
    "uncond": ("zero_image_hidden", "empty_instruct", "negative_prompt"),
}


@dataclass(frozen=True)
class GoldenCase:
    family: str
    config: dict
    values: dict[str, Tensor]

    @functools.cached_property
    def base_weights(self) -> dict[str, Tensor]:
        return made_up_weights(self.config["seed"], self.config["base_weights"])

    @functools.cached_property
    def adapter_weights(self) -> dict[str, Tensor]:
        return made_up_weights(self.config["seed"], self.config["adapter_weights"])

    def features(self, branch: str) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.values[f"feature.{name}"] for name in BRANCH_FEATURES[branch])


@functools.cache
@torch.inference_mode(False)  # kept for later tests, whatever mode the first one is in
def golden_case(family: str) -> GoldenCase:
    config = json.loads((FOLDER / f"{family}.json").read_text())
    return GoldenCase(family, config, load_file(FOLDER / f"{family}.safetensors"))


@torch.inference_mode(False)
def made_up_weights(seed: int, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {name: _made_up(seed, name, shape) for name, shape in shapes.items()}


def _made_up(seed: int, name: str, shape: list[int]) -> Tensor:
    x = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode())).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        x = x / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith("weight"):
        x = 1 + np.float32(0.1) * x
    else:
        x = np.float32(0.05) * x
    return torch.from_numpy(x.astype(np.float32))
