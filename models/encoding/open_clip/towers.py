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
import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from torch import Tensor, nn
from torch.func import functional_call

from ..held_models import HoldsModels, managed
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
    """Runs a tower with its own tensors in float32 on the input's device, wherever and whatever they are.

    ComfyUI's layers do the same with their weights and biases, one layer after another.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        device = next(x.device for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        tensors = (*self.module.named_parameters(), *self.module.named_buffers())
        own = {name: x.to(device, torch.float32) for name, x in tensors if not name.endswith((".weight", ".bias"))}
        return functional_call(self.module, own, args, kwargs)


class Attention(nn.Module):
    """The attention of open_clip's blocks, made of layers; most weights of torch's own belong to none."""

    def __init__(self, theirs: nn.MultiheadAttention):
        super().__init__()
        self.heads = theirs.num_heads
        self.in_proj = comfy.ops.manual_cast.Linear(theirs.embed_dim, 3 * theirs.embed_dim, device="meta")
        self.in_proj.weight, self.in_proj.bias = theirs.in_proj_weight, theirs.in_proj_bias
        self.out_proj = theirs.out_proj

    def forward(self, x: Tensor, *_same: Tensor, attn_mask: Tensor | None, need_weights: bool) -> tuple[Tensor]:
        attention = optimized_attention_for_device(x.device, mask=attn_mask is not None, small_input=True)
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        return (self.out_proj(attention(q, k, v, self.heads, mask=attn_mask)),)


class ImageStates(nn.Module):
    """An image tower that answers as ComfyUI's own image encoders do."""

    def __init__(self, tower: Any):  # open_clip's VisionTransformer
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
    tower.transformer.get_cast_dtype = lambda: torch.float32  # open_clip's answer is the precision of its weights
    tower.token_embedding.bias = None  # ComfyUI's embedding has one
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
    _use_host_layers(tower)
    return tower.requires_grad_(False).eval()


def _use_host_layers(tower: Any) -> None:
    """Make a tower's layers ComfyUI's, which find their weights where its memory management has them."""
    for block in tower.transformer.resblocks:
        block.attn = Attention(block.attn)
    for layer in tower.modules():
        for kind in (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.Embedding):
            if isinstance(layer, kind):
                layer.__class__ = getattr(comfy.ops.manual_cast, kind.__name__)


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
        self.patcher = managed(self.model, mm.text_encoder_device(), mm.text_encoder_offload_device())
        self.load_device = self.patcher.load_device


class OpenClipText(HoldsModels):
    """OpenAI's ViT-L-14 text tower by open_clip, which reads instructions. title: what it is, in words."""

    def __init__(self, weights: TowerWeights):
        positions = weights.tensors["positional_embedding"][:TEXT_LENGTH]  # more in a Long-CLIP
        weights = replace(weights, tensors={**weights.tensors, "positional_embedding": positions})
        self.title = _described(weights, TEXT.title)
        self._positions = weights.positions
        self.model = CastAtUse(build_text_tower(weights))
        self.patcher = managed(self.model, mm.text_encoder_device(), mm.text_encoder_offload_device())

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the texts' last hidden states after the final norm, [B, L, D], float32. L is 77, or all positions."""
        mm.load_models_gpu([self.patcher])
        tokens = torch.tensor(token_ids(_tokenizer(), texts, self._positions), device=self.patcher.load_device)
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


def sentence_ends(texts: Sequence[str]) -> list[int]:
    """Return the place of each text's end among its tokens, whose hidden state stands for the whole text."""
    return [row.index(row[-1]) for row in token_ids(_tokenizer(), texts, TEXT_LENGTH)]


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
