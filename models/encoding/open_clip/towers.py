"""CLIP's towers by open_clip, in the host's care: as a CLIP_VISION, and as the text encoder of instructions.

They compute in float32 from weights of the file's own precision. Axes: B images or texts, N positions, D width.
"""

import functools
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import comfy.clip_vision
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd1_clip
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..held_models import HoldsModels
from .files import IMAGE, TEXT, Kind, TowerWeights, read_tower

T = TypeVar("T")

TEXT_LENGTH = 77


def open_clip_module() -> ModuleType:
    """Import open_clip when it is first needed. Raises ValueError, which says how to get it."""
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(
            f"This node was expected to find open_clip; it cannot be imported ({error}). With the python that runs "
            f"ComfyUI: {sys.executable} -m pip install open_clip_torch , or let ComfyUI-Manager reinstall this pack's "
            "requirements; then start ComfyUI again."
        ) from error
    return open_clip


class CastAtUse(nn.Module):
    """Runs a module with its weights in float32 on the input's device, wherever and whatever they are.

    open_clip's layers are not ComfyUI's and would not run half loaded or in mixed precision. The copies last for one
    call; those of a CastAtUse inside are made by it, so that a tower's are made a block at a time.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        inner = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, CastAtUse))
        self._own = [name for name, _ in _tensors(module) if not name.startswith(inner)]

    def forward(self, *args, **kwargs):
        device = next(x.device for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        tensors = dict(_tensors(self.module))
        weights = {name: tensors[name].to(device, torch.float32) for name in self._own}
        return functional_call(self.module, weights, args, kwargs)

    def get_weight_dtype(self) -> torch.dtype:
        """Return the precision to compute in, for which open_clip's towers ask their first block."""
        return torch.float32


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class ImageStates(nn.Module):
    """An image tower that answers as ComfyUI's own image encoders do."""

    tower: Any  # open_clip's VisionTransformer

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values: Tensor, intermediate_output: int | None = None):
        """Return what ComfyUI's image encoders return for normalised pixels [B, 3, size, size].

        That is hidden states after the last layer [B, N, D], those after another one or None, the projected embedding
        [B, width], None. Class token first; no closing norm but in the embedding.
        """
        layers = len(self.tower.transformer.resblocks)
        last, wanted = layers - 1, (-1 if intermediate_output is None else intermediate_output) % layers
        out = self.tower.forward_intermediates(
            pixel_values, indices=sorted({wanted, last}), output_fmt="NLC", output_extra_tokens=True
        )
        pairs = zip(out["image_intermediates_prefix"], out["image_intermediates"], strict=True)
        hidden_states = [torch.cat(pair, dim=1) for pair in pairs]
        return hidden_states[-1], None if intermediate_output is None else hidden_states[0], out["image_features"], None


def build_image_tower(weights: TowerWeights) -> nn.Module:
    """Build open_clip's image tower with a file's weights and sizes. Raises ValueError where they disagree."""
    tower = _pair(weights, "vision_cfg", image_size=weights.image_size, patch_size=weights.patch_size).visual
    if weights.encoder_sizes.projection_width is None:
        tower.proj = None
    return _filled(tower, weights)


def build_text_tower(weights: TowerWeights) -> nn.Module:
    """Build the text tower as `build_image_tower` does, without projection: token ids [B, N] -> (unused, [B, N, D])."""
    vocabulary = weights.tensors["token_embedding.weight"].shape[0]
    sizes = {"context_length": weights.positions, "vocab_size": vocabulary}
    tower = _pair(weights, "text_cfg", **sizes, proj_type="none", output_tokens=True).text
    tower.attn_mask = torch.full((weights.positions,) * 2, float("-inf")).triu(1)  # the meta device's has no numbers
    return _filled(tower, weights)


def _pair(weights: TowerWeights, part: str, **options: Any) -> Any:
    """Return open_clip's CustomTextCLIP on the meta device, without numbers. The tower that goes unused has one layer.

    part: the name of the wanted tower's configuration. options: what is to stand in it.
    """
    open_clip = open_clip_module()
    config = open_clip.get_model_config(weights.tower.model)
    config["embed_dim"] = weights.encoder_sizes.projection_width or config["embed_dim"]
    config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = 1
    # open_clip multiplies by the ratio and rounds down; half a unit more is safe from the rounding of the ratio.
    mlp_ratio = (weights.mlp_width + 0.5) / weights.tower.width
    config[part] |= {"layers": weights.layers, "mlp_ratio": mlp_ratio, **options}
    with torch.device("meta"):
        return open_clip.CustomTextCLIP(**config)


def _filled(tower: Any, weights: TowerWeights) -> nn.Module:
    try:
        tower.load_state_dict(weights.tensors, assign=True)
    except RuntimeError as error:  # sizes that differ, one a line
        raise ValueError(
            f"{weights.file} was expected to hold a {weights.tower.title} of {weights.layers} layers; its tensors do "
            f"not fit together ({str(error).splitlines()[-1].strip()}). It is damaged or another model: choose another "
            "file."
        ) from error
    blocks = tower.transformer.resblocks
    for number, block in enumerate(blocks):
        blocks[number] = CastAtUse(block)
    return tower.requires_grad_(False).eval()


def _managed(module: nn.Module) -> comfy.model_patcher.ModelPatcher:
    """Put a module into the host's memory management. Not its dynamic kind, which is made for ComfyUI's own layers."""
    return comfy.model_patcher.ModelPatcher(
        module, load_device=mm.text_encoder_device(), offload_device=mm.text_encoder_offload_device()
    )


def _described(weights: TowerWeights, kind: str) -> str:
    precision = str(next(iter(weights.tensors.values())).dtype).removeprefix("torch.")
    sizes = f"{weights.layers} layers, {weights.tower.width} wide"
    return f"{weights.tower.title} {kind}, {sizes}; {precision}, {weights.layout}"


class OpenClipVision(HoldsModels, comfy.clip_vision.ClipVisionModel):
    """A CLIP_VISION for this pack, ComfyUI's nodes and other packs, computed by open_clip. title: in words."""

    def __init__(self, weights: TowerWeights):  # the host's would build a tower of its own
        open_clip = open_clip_module()
        self.sizes = weights.encoder_sizes
        self.title = f"{_described(weights, IMAGE.title)}, {weights.image_size} pixels"
        self.image_size = weights.image_size
        self.image_mean, self.image_std = list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD)
        # What encode_image reads; the second line in newer versions of ComfyUI.
        self.return_all_hidden_states = False
        self.model_type, self.config, self.naf = "clip_vision_model", {}, None
        self.dtype = torch.float32
        self.model = CastAtUse(ImageStates(build_image_tower(weights)))
        self.patcher = _managed(self.model)
        self.load_device = self.patcher.load_device


class OpenClipText(HoldsModels):
    """OpenAI's ViT-L-14 text tower by open_clip, which reads instructions. title: what it is, in words."""

    def __init__(self, weights: TowerWeights):
        positions = weights.tensors["positional_embedding"][:TEXT_LENGTH]  # more in a Long-CLIP
        weights = replace(weights, tensors={**weights.tensors, "positional_embedding": positions})
        self.title = _described(weights, TEXT.title)
        self._positions = weights.positions
        self.model = CastAtUse(build_text_tower(weights))
        self.patcher = _managed(self.model)
        self.load_device = self.patcher.load_device

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the texts' last hidden states after the final norm, [B, L, D], float32. L is 77, or all positions."""
        mm.load_models_gpu([self.patcher])
        tokens = torch.tensor(token_ids(_tokenizer(), texts, self._positions), device=self.load_device)
        with torch.no_grad():
            return self.model(tokens)[1]


def token_ids(tokenizer, texts: Sequence[str], positions: int) -> list[list[int]]:
    """Return each text's tokens, as many as the tower has positions.

    They are start, text, end, cut to 77 and to the tower's positions, the end kept, and padded with end to all of the
    positions. open_clip's own tokenizer pads with 0 instead.
    """
    length = min(TEXT_LENGTH, positions)
    rows = tokenizer(texts, padding="max_length", max_length=length, truncation=True)["input_ids"]
    return [row + row[-1:] * (positions - length) for row in rows]


@functools.cache
def _tokenizer():
    return comfy.sd1_clip.SDTokenizer().tokenizer


_shared: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def load_image_tower(path: Path) -> OpenClipVision:
    """Load a file's image tower; the same object for the same file, as long as somebody holds it.

    Raises ValueError for a file without one, and where open_clip is missing.
    """
    return _load(path, IMAGE, OpenClipVision)


def load_text_tower(path: Path) -> OpenClipText:
    """Load a file's text tower, as `load_image_tower` does."""
    return _load(path, TEXT, OpenClipText)


def _load(path: Path, kind: Kind, make: Callable[[TowerWeights], T]) -> T:
    key = (kind.title, str(path), path.stat().st_mtime_ns)
    found = _shared.get(key)
    if found is None:
        open_clip_module()  # before a large file is read for nothing
        found = _shared[key] = make(read_tower(path, kind))
    return found
