"""An adapter in training: the modules that sampling uses, in float32 and with gradients.

Axes: B pairs, T image tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.checkpoint import ATTENTION, IMAGE_PROJECTION, AdapterCheckpoint, build, renamed
from ..denoisers.denoiser import denoiser_of
from ..denoisers.model_view import SiteKey
from ..denoisers.rows import BatchRows
from ..families import Family
from ..guidance.layer_weights import V_ONLY
from .batch import Conditioning


class TrainableAdapter(nn.Module):
    """The trainable parts of an IPAdapter-Instruct, which `initial_checkpoint` gives.

    instructions: those that it was trained on before. image_projection: the resampler. projections: image tokens to
    keys and values. streams: SD3's layers for the model's streams, or None.
    """

    @torch.inference_mode(False)  # in which ComfyUI runs nodes, and whose tensors take no gradients
    def __init__(self, checkpoint: AdapterCheckpoint):
        super().__init__()
        adapter = build(checkpoint)
        self.family: Family = checkpoint.family
        self.instructions = checkpoint.instructions
        self.image_projection, self.projections = adapter.image_projection, adapter.projections
        self.streams = adapter.streams
        for name, parameter in list(self.named_parameters()):
            own = nn.Parameter(parameter.detach().to(torch.float32, copy=True))
            self.get_submodule(name.rpartition(".")[0]).register_parameter(name.rpartition(".")[2], own)
        for layer in denoiser_of(self.family).frozen_layers(self.projections):
            layer.requires_grad_(False)

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [weight for weight in self.parameters() if weight.requires_grad]

    def forward(self, losses: Callable[..., Tensor], *given) -> Tensor:
        """Return what `losses` says of it. Processes that share it exchange gradients after a pass through here."""
        return losses(self, *given)

    def image_tokens(self, given: Conditioning) -> Tensor:
        """Return image tokens [B, T, D]; as when sampling in float32, whatever the rest computes in."""
        with torch.autocast(given.image_features.device.type, enabled=False):
            return self.image_projection(given.image_features, given.instruct_embeds, given.prompt_embeds)


def named_as_published(family: Family, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a trainable adapter's weights, or averages of them, under the names of published files."""
    named = {}
    in_files = {ours: theirs for theirs, ours in denoiser_of(family).file_names.items()}
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        is_image = part == "image_projection"
        named[IMAGE_PROJECTION + renamed(rest, in_files) if is_image else ATTENTION + rest] = weight
    return named


@dataclass(frozen=True, eq=False)
class TrainingStepAdapter:
    """The trainable adapter at one step, as `SiteAdapter` says. It acts with weight 1, everywhere.

    by_site: keys and values of each site, [B, T, D], a row for each latent.
    """

    adapter: TrainableAdapter
    by_site: Mapping[SiteKey, tuple[Tensor, Tensor]]
    masks: None = None
    scaling: str = V_ONLY

    @property
    def sites(self):
        return self.by_site.keys()

    def is_on_negative(self, site: SiteKey) -> bool:
        return False

    def keys_values(self, site: SiteKey, rows: BatchRows, like: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.by_site[site]
        return keys.to(like), values.to(like)

    def weight(self, site: SiteKey, rows: BatchRows, like: Tensor) -> float:
        return 1.0

    def stream_layers(self, site: SiteKey, like: Tensor) -> nn.Module:
        streams: Any = self.adapter.streams  # never None where a site asks
        return streams.at(site[1])
