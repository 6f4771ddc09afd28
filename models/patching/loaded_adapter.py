"""An adapter in the host's care: its weights are loaded, partly loaded, moved and freed by ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor, nn

from ..checkpoint import AdapterCheckpoint, build, read_file, recognise

# Weights that follow the host's dynamic memory management, where the version has it.
Patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


class LoadedAdapter:
    """An IPAdapter-Instruct in memory.

    The resampler runs while encoding and the projections once a sampling run, so each has a patcher of
    its own. Both compute in float32 whatever the file's dtype: it is little work, and the exact result.
    """

    def __init__(self, name: str, checkpoint: AdapterCheckpoint):
        adapter = build(checkpoint, comfy.ops.manual_cast)
        self.name = name
        self.family = adapter.family
        self.sizes = adapter.resampler.sizes
        self.resampler = _managed(adapter.resampler)
        self.projections = _managed(adapter.projections)

    @classmethod
    def read(cls, path: Path) -> LoadedAdapter:
        """Raises AdapterFileError, a ValueError, for a file that is not a usable adapter."""
        return cls(path.name, recognise(read_file(path)))

    def image_tokens(self, image_features: Tensor, instruct_embeds: Tensor, prompt_embeds: Tensor) -> Tensor:
        """image_features [n, N, D], embeds [1, L, D] -> the image tokens of all n together, [1, n T, width]."""
        mm.load_models_gpu([self.resampler])
        inputs = (image_features, *(e.expand(len(image_features), -1, -1) for e in (instruct_embeds, prompt_embeds)))
        with torch.no_grad():
            tokens = self.resampler.model(*(x.to(self.resampler.load_device, torch.float32) for x in inputs))
        return tokens.flatten(0, 1).unsqueeze(0).to(mm.intermediate_device())

    def keys_values(self, image_tokens: Sequence[Tensor], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Rows of image tokens, each [1, T, width] -> keys and values of every site, [rows, T, site width]."""
        mm.load_models_gpu([self.projections])
        tokens = torch.cat(list(image_tokens)).to(self.projections.load_device, torch.float32)
        with torch.no_grad():
            return [(k.to(dtype), v.to(dtype)) for k, v in self.projections.model(tokens)]


def _managed(module: nn.Module) -> comfy.model_patcher.ModelPatcher:
    return Patcher(module, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
