"""ComfyUI's UNets, of SD1.5 and SDXL: image tokens enter every cross-attention."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..families import UNET
from ..guidance.layer_weights import INPUT, MIDDLE, OUTPUT, Layer
from .adapter_layers import KEYS, VALUES, SiteProjections, layer_shapes
from .denoiser import Denoiser, LayersInFile
from .model_view import DENOISER, ModelView, Site, SiteKey, class_name, layer_size
from .rows import BatchRows, SiteAdapter
from .site_checks import closed


class UNet(Denoiser):
    """The UNet: image tokens bring keys and values for each attn2, added to what it makes of the text."""

    name = UNET
    attention = "cross-attention"
    clip_type = "STABLE_DIFFUSION"
    replaces = "attn2"

    def matches(self, model: ModelView) -> bool:
        return hasattr(model.denoiser, "input_blocks")

    def sites(self, model: ModelView) -> list[Site]:
        """Return every cross-attention in diffusers' order: down blocks, up blocks, the middle block.

        The middle block's number is 0 whatever the module's place in it: the host names it ("middle", 0).
        """
        blocks = [
            ((part, number), path)
            for part in ("input", "output")
            for number, path in enumerate(model.entries(f"{DENOISER}.{part}_blocks"))
        ]
        blocks.append((("middle", 0), f"{DENOISER}.middle_block"))
        return [site for key, path in blocks for site in _sites_in(model, key, path)]

    def check_open(self, model: ModelView, sites: Iterable[Site]) -> None:
        """Raise ValueError unless adapters find a way into these cross-attentions.

        Where one acts, the host's block calls attn2's four layers in place of its forward: ComfyUI 0.3.75,
        BasicTransformerBlock. What stands in a block's own place decides itself, which shows when it runs.
        """
        for site in sites:
            path = f"{site.path}.attn2"
            if model.replaced(site.path) is not None:
                continue
            replaced = model.replaced(path)
            if replaced is not None:
                raise closed(replaced)
            attention = model.at(path)
            if not all(hasattr(attention, name) for name in ("to_q", "to_k", "to_v", "to_out")):
                raise closed(f"the {class_name(attention)} at {path}")

    def layers(self, sites: Sequence[SiteKey]) -> list[Layer]:
        """Return groups that the model runs from first to last: down, the middle, up.

        Source: ComfyUI 0.3.75, openaimodel.py, which counts them so in `transformer_index`.
        """
        parts = (INPUT, MIDDLE, OUTPUT)
        blocks = sorted({site[:2] for site in sites}, key=lambda block: (parts.index(block[0]), block[1]))
        return [Layer(blocks.index(site[:2]), site[2], site[0]) for site in sites]

    def first_layer(self, model: nn.Module) -> nn.Module:
        return cast(Sequence[Sequence[nn.Module]], model.input_blocks)[0][0]

    def read_layers(self, tensors: Mapping[str, Tensor]) -> list[LayersInFile]:
        shapes = layer_shapes(tensors, SiteProjections.layers, f"1.{KEYS}.weight")
        widths = {number: shape[0] for number, shape in shapes.items()}
        token_width = next(iter(shapes.values()))[1]
        return [LayersInFile(partial(SiteProjections, widths, token_width), tensors, token_width)]

    def site_widths(self, sites: Sequence[Site]) -> dict[int, int]:
        return {2 * place + 1: site.width for place, site in enumerate(sites)}

    def new_layers(self, sites: Sequence[Site], model: ModelView, generator: torch.Generator) -> list[nn.Module]:
        """Return new layers that begin as the model's own for text, without LoRAs.

        Source: arXiv 2308.06721 section 3.2.
        """
        module = SiteProjections(self.site_widths(sites), sites[0].context_width)
        with torch.no_grad():
            for layers, site in zip(module.children(), sites, strict=True):
                getattr(layers, KEYS).weight.copy_(_text_layer(model, f"{site.path}.attn2.to_k"))
                getattr(layers, VALUES).weight.copy_(_text_layer(model, f"{site.path}.attn2.to_v"))
        return [module]

    def patch(self, site: SiteKey, adapters: tuple[SiteAdapter, ...], rows: BatchRows, inner: Callable | None):
        from .cross_attention_patch import CrossAttentionPatch  # it needs ComfyUI, which reading files does not

        return CrossAttentionPatch(site, adapters, rows, inner)


def _sites_in(model: ModelView, key: tuple[str, int], block: str) -> Iterator[Site]:
    for layer in model.entries(block):
        for index, path in enumerate(model.entries(f"{layer}.transformer_blocks")):
            attention = model.before(f"{path}.attn2")
            if not hasattr(attention, "to_k"):
                raise closed(f"the {class_name(attention)} at {path}.attn2")
            width, context_width = layer_size(model.before(f"{path}.attn2.to_k"))
            yield Site((*key, index), width, context_width, path)


def _text_layer(model: ModelView, path: str) -> Tensor:
    weight = model.weight(path)
    if weight is None:
        raise ValueError(
            f"A new adapter begins with the model's own keys and values for text; {path} is a "
            f"{class_name(model.before(path))}, whose packed weight cannot be read. Connect the model without this "
            "quantization, or begin with an adapter's file."
        )
    return weight
