"""Small files for tests: adapters in the published names, and headers of image encoders. Torch only.

Names and shapes come from tools/comfyhost, which is written without the pack's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from comfyhost.adapters import SHAPES, Shape, cross_sites, joint_sites, nested, resampler
from comfyhost.weights import Blueprint, draw
from safetensors.torch import save_file
from torch import Tensor

SITES = (64, 128, 64)
PATCH_EMBEDDING = {
    "transformers": "vision_model.embeddings.patch_embedding.weight",
    "open_clip": "visual.conv1.weight",
}
PROJECTION = {"transformers": "visual_projection.weight", "open_clip": "visual.proj"}
POSITIONS = {
    "transformers": "vision_model.embeddings.position_embedding.weight",
    "open_clip": "visual.positional_embedding",
}


def adapter_tensors(
    family: str = "sd15", sites: Sequence[int] = SITES, token_width: int | None = None
) -> dict[str, Tensor]:
    """A small adapter of the family's names and token width, under dotted names."""
    published = SHAPES[family]
    width = token_width or published.token_width
    parts = Blueprint()
    parts.add("image_proj.", resampler(Shape(64, 2, width, published.last_layers)))
    parts.add("ip_adapter.", joint_sites(sites) if family == "sd3" else cross_sites(sites, width))
    return draw(parts, seed=0, dtype=torch.float32)


def save_adapter(tensors: Mapping[str, Tensor], path: Path) -> Path:
    """Write .bin as a pickle nested as the published ones, anything else as safetensors."""
    if path.suffix == ".bin":
        torch.save(nested(tensors), path)
    else:
        save_file(dict(tensors), path)
    return path


def save_encoder_header(
    path: Path,
    width: int,
    layout: str = "transformers",
    projection_width: int | None = None,
    positions: int | None = None,
) -> Path:
    """A .safetensors file that holds no more of an image encoder than tells its sizes."""
    tensors = {PATCH_EMBEDDING[layout]: torch.zeros(width, 3, 2, 2)}
    if projection_width:
        shape = (projection_width, width) if layout == "transformers" else (width, projection_width)
        tensors[PROJECTION[layout]] = torch.zeros(shape)
    if positions:
        tensors[POSITIONS[layout]] = torch.zeros(positions, width)
    save_file(tensors, path)
    return path
