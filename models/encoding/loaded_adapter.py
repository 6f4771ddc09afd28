"""An adapter in the host's care: its weights are loaded, partly loaded, moved and freed by ComfyUI."""

from collections.abc import Collection
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..adapter.checkpoint import AdapterCheckpoint, build, fingerprint, read_checkpoint
from .held_models import HoldsModels, managed


class LoadedAdapter(HoldsModels):
    """An adapter in memory.

    image_projection: in the host's memory management; runs while encoding. sizes: its own, such as out_width;
        image_width and face_width where it reads them.
    encoder_need: what it reads of an image, None for nothing. notes: what is known of it by its name, in words.
    instructions: those that this pack trained it on.
    lora: of a FaceID file, for the model's own layers; under the file's names, on the CPU. lora_strength: the user's.
    projections: run once a sampling run, and so stay where they are; a layer's weight visits the device when used.
    streams: SD3's, in the host's memory management; loaded beside the model while it samples, on `streams_device`.
        None for a UNet.

    Both projections compute in float32 whatever the file's dtype: it is little work, and the exact result.
    """

    def __init__(self, name: str, checkpoint: AdapterCheckpoint, lora_strength: float = 1.0):
        adapter = build(checkpoint, comfy.ops.manual_cast)
        self.name = name
        self.family, self.kind, self.notes = checkpoint.family, checkpoint.kind, checkpoint.notes
        self.encoder_need, self.lora = checkpoint.encoder_need, checkpoint.lora
        self.lora_strength = lora_strength
        self.instructions = checkpoint.instructions
        self.sizes: Any = adapter.image_projection.sizes
        devices = mm.get_torch_device(), mm.unet_offload_device()
        self.image_projection = managed(adapter.image_projection, *devices)
        self.projections = adapter.projections
        self.streams = adapter.streams and managed(adapter.streams, *devices)
        # As a tensor there names it: with the device's number.
        self.streams_device = self.streams and torch.empty(0, device=self.streams.load_device).device

    def get_models(self) -> list[comfy.model_patcher.ModelPatcher]:
        return [self.image_projection, *([self.streams] if self.streams else [])]

    @property
    def context_width(self) -> int:
        """The width of the image tokens, which is the model's context width."""
        return self.sizes.out_width

    @cached_property
    def fingerprint(self) -> str:
        """The text that tells this adapter from any other, whatever the precision of its file."""
        image_projection, *streams = (model.model for model in self.get_models())
        parts = (image_projection, self.projections, *streams)
        tensors = {name: weight for part in parts for name, weight in part.state_dict().items()}
        return fingerprint(tensors, "" if self.kind.takes_instruction else self.kind.name)

    @classmethod
    def read(cls, path: Path, lora_strength: float = 1.0) -> "LoadedAdapter":
        """Read an adapter. Raises AdapterFileError, a ValueError, for a file that is not a usable one."""
        return cls(path.name, read_checkpoint(path), lora_strength)

    def image_tokens(self, *inputs: Tensor, **options: float) -> Tensor:
        """Return image tokens [B, T, width]. inputs: what the kind's projection takes, for B references or for all (1).

        An IPAdapter-Instruct takes image features [B, N, D] and embeds of the instruction and the prompt, [1, L, D].
        """
        mm.load_models_gpu([self.image_projection])
        device, rows = self.image_projection.load_device, max(len(x) for x in inputs)
        with torch.no_grad():
            alike = (x.to(device, torch.float32).expand(rows, *x.shape[1:]) for x in inputs)
            tokens = self.image_projection.model(*alike, **options)
        return tokens.to(mm.intermediate_device())

    def keys_values(
        self, image_tokens: Tensor, dtype: torch.dtype, wanted: Collection[int] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values, [rows, T, site width], of image tokens [rows, T, width], on their device.

        wanted: the sites' places in the adapter's order; None for all.

        Room for all is made first. Else each would come to lie where a widened weight has just been, the next weight
        would not fit there any more, and memory would grow by a weight with each layer.
        """
        widths = [width for place, width in enumerate(self.projections.widths) if wanted is None or place in wanted]
        pairs = [image_tokens.new_empty((2, *image_tokens.shape[:2], width), dtype=dtype) for width in widths]
        with torch.no_grad():
            for pair, made in zip(pairs, self.projections(image_tokens.float(), wanted), strict=True):
                for room, tensor in zip(pair, made, strict=True):
                    room.copy_(tensor)
        return [(keys, values) for keys, values in pairs]

    def stream_layers(self, block: int) -> nn.Module:
        """Return SD3's four layers for a block's streams."""
        streams: Any = self.streams  # never None where a site asks
        return streams.model.at(block)

    def copied_stream_layers(self, block: int, like: Tensor) -> SimpleNamespace:
        """Return the same four layers with copies of their weights on the device of `like`, and of its dtype.

        The host's own layers may hold memory of the device that it has loaded them to.
        """
        named: Any = self.stream_layers(block).named_children()
        return SimpleNamespace(**{name: partial(F.linear, weight=layer.weight.to(like)) for name, layer in named})
