"""ComfyUI's MMDiT, of SD3: image tokens enter every second joint attention."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..families import MMDIT
from ..guidance.layer_weights import INPUT, MIDDLE, OUTPUT, V_ONLY, Layer
from .adapter_layers import STREAM_LAYERS, TOKEN_LAYERS, StreamProjections, TokenProjections, layer_shapes
from .denoiser import Denoiser, LayersInFile
from .model_view import DENOISER, ModelView, Site, SiteKey, layer_size
from .rows import BatchRows, SiteAdapter

JOINT_BLOCK = "double_block"


class MMDiT(Denoiser):
    """The MMDiT: image tokens bring keys and values, and layers that act on a block's own streams at every step."""

    name = MMDIT
    attention = "joint attention"
    clip_type = "SD3"
    replaces = "dit"
    scalings = (V_ONLY,)  # the attention mixes image tokens with what the model itself sees
    file_names = {"proj_out_big.": "proj_out.", "norm_out_big.": "norm_out."}
    own_tensor = "proj_out_big.weight"

    def matches(self, model: ModelView) -> bool:
        return hasattr(model.denoiser, "joint_blocks")

    def sites(self, model: ModelView) -> list[Site]:
        """Return every second joint block, from the first."""
        _, context_width = layer_size(model.before(f"{DENOISER}.context_embedder"))
        widths = [layer_size(model.before(f"{path}.x_block.attn.proj"))[0] for path in _blocks(model)]
        return [
            Site((JOINT_BLOCK, number), widths[number], context_width, f"{DENOISER}.joint_blocks.{number}")
            for number in range(0, len(widths), 2)
        ]

    def notes(self, model: ModelView) -> tuple[str, ...]:
        """Return a note for SD3.5 medium, which blocks with a second attention tell apart.

        It is as wide as SD3 medium, so its adapters fit.
        """
        if any(model.before(f"{path}.x_block").x_block_self_attn for path in _blocks(model)):
            return (
                "note: this model is SD3.5 medium; the adapter was trained on SD3 medium and may do less well here",
            )
        return ()

    def layers(self, sites: Sequence[SiteKey]) -> list[Layer]:
        """Return one group for each. All are of one kind: the parts are thirds of the depth."""
        parts = (INPUT, MIDDLE, OUTPUT)
        return [Layer(number, 0, parts[3 * number // len(sites)]) for number in range(len(sites))]

    def first_layer(self, model: nn.Module) -> nn.Module:
        return cast(nn.Module, model.x_embedder)

    def read_layers(self, tensors: Mapping[str, Tensor]) -> list[LayersInFile]:
        shapes = layer_shapes(tensors, TOKEN_LAYERS + STREAM_LAYERS, "0.to_k_ip.weight")
        widths = {number: shape[0] for number, shape in shapes.items()}
        tokens = {name: tensor for name, tensor in tensors.items() if any(x in name.split(".") for x in TOKEN_LAYERS)}
        streams = {name: tensor for name, tensor in tensors.items() if name not in tokens}
        parts = ((TokenProjections, tokens), (StreamProjections, streams))
        return [LayersInFile(partial(layers, widths, None), own, None) for layers, own in parts]

    def site_widths(self, sites: Sequence[Site]) -> dict[int, int]:
        return {site.key[1]: site.width for site in sites}

    def new_layers(self, sites: Sequence[Site], model: ModelView, generator: torch.Generator) -> list[nn.Module]:
        """Return new layers, with which the image tokens add nothing yet."""
        widths = self.site_widths(sites)
        modules = [TokenProjections(widths), StreamProjections(widths)]
        for module in modules:
            _draw(module, generator)
        return modules

    def frozen_layers(self, projections: nn.Module) -> Iterator[nn.Module]:
        """Yield the last block's layer that passes tokens on, since no block after it reads them."""
        yield cast(nn.Module, list(projections.children())[-1].proj_encoder_passthrough_ip)

    def embed(self, model: nn.Module, image_tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """Pass image tokens through the model's embedder, as text tokens: [..., T, context width] -> [..., T, D]."""
        return cast(nn.Module, model.context_embedder)(image_tokens.to(dtype))

    def patch(self, site: SiteKey, adapters: tuple[SiteAdapter, ...], rows: BatchRows, inner: Callable | None):
        from .joint_attention_patch import JointBlockPatch  # it needs ComfyUI, which reading files does not

        return JointBlockPatch(site, adapters, rows, inner)


def _blocks(model: ModelView) -> list[str]:
    return model.entries(f"{DENOISER}.joint_blocks")


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    for name, weight in module.named_parameters():
        layer = name.split(".")[1]
        if layer == "proj_encoder_passthrough_ip":
            nn.init.eye_(weight)
        elif layer in ("proj_ip", "proj_encoder_hidden_states_ip"):
            weight.zero_()
        else:
            weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=generator)
