"""The kinds of denoisers, and everything that differs between them. Nothing else asks which kind a model is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..families import Family
from ..guidance.layer_weights import SCALINGS, Layer
from .model_view import ModelView, Site, SiteKey
from .rows import BatchRows, SiteAdapter
from .site_checks import family_of_sites


class LayersInFile(NamedTuple):
    """One module of an adapter's attention layers.

    make: makes it of torch's or the host's operations. tensors: those of the file that it holds.
    token_width: the width of the image tokens that it takes, None where the model's own embedder gives it.
    """

    make: Callable[[ModuleType], nn.Module]
    tensors: Mapping[str, Tensor]
    token_width: int | None


class Denoiser(ABC):
    """One kind of denoiser: how its models are recognised, where adapters act in them, and what their adapters hold.

    name: as families and messages call it. attention: what image tokens enter. clip_type: ComfyUI's, for its text
    encoders. scalings: where the weight may act. replaces: where the host's patches_replace has its sites.
    file_names: how files of its adapters call parts of the image projection, and how the modules call them.
    own_tensor: one of the image projection that only files of its adapters hold; "" for the kind whose files have none.
    """

    name: ClassVar[str]
    attention: ClassVar[str]
    clip_type: ClassVar[str]
    replaces: ClassVar[str]
    scalings: ClassVar[Sequence[str]] = SCALINGS
    file_names: ClassVar[Mapping[str, str]] = {}
    own_tensor: ClassVar[str] = ""

    _kinds: "ClassVar[dict[str, Denoiser]]" = {}

    def __init_subclass__(cls) -> None:
        Denoiser._kinds[cls.name] = cls()

    # Models

    @abstractmethod
    def matches(self, model: ModelView) -> bool:
        """Return whether a model's denoiser is of this kind."""

    @abstractmethod
    def sites(self, model: ModelView) -> list[Site]:
        """Return where its adapters act, in the adapter's order."""

    def check_open(self, model: ModelView, sites: Iterable[Site]) -> None:  # noqa: B027 (most leave a way in)
        """Raise ValueError where other nodes have left sites of a model no way in."""

    def notes(self, model: ModelView) -> tuple[str, ...]:
        """Return what a user should know of a model that fits, in words."""
        return ()

    @abstractmethod
    def layers(self, sites: Sequence[SiteKey]) -> list[Layer]:
        """Return where each of the sites stands in the model."""

    @abstractmethod
    def first_layer(self, model: nn.Module) -> nn.Module:
        """Return what every evaluation of the model begins with."""

    # Adapters

    @abstractmethod
    def read_layers(self, tensors: Mapping[str, Tensor]) -> Sequence[LayersInFile]:
        """Return the modules that a file's attention tensors make. Raise KeyError naming one that is missing."""

    @abstractmethod
    def site_widths(self, sites: Sequence[Site]) -> dict[int, int]:
        """Return each site's width by its number in an adapter file."""

    @abstractmethod
    def new_layers(self, sites: Sequence[Site], model: ModelView, generator: torch.Generator) -> Sequence[nn.Module]:
        """Return the modules of an adapter that training begins with."""

    def frozen_layers(self, projections: nn.Module) -> Iterator[nn.Module]:
        """Yield the layers of an adapter that nothing reads, so that no gradient reaches them."""
        yield from ()

    # Sampling

    def embed(self, model: nn.Module, image_tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """Return image tokens [..., T, width] as the sites' projections take them, in the model's compute dtype."""
        return image_tokens

    @abstractmethod
    def patch(self, site: SiteKey, adapters: tuple[SiteAdapter, ...], rows: BatchRows, inner: Callable | None):
        """Return what acts at one site in a model call. inner: what another pack has put there."""

    def patched(self, transformer_options: dict, adapters: tuple[SiteAdapter, ...], rows: BatchRows) -> dict:
        """Return a copy of `transformer_options` for one model call, with adapters acting on its rows at their sites.

        Whatever already replaces a site, by its whole key or the first two parts of it, goes on working inside.
        """
        replacements = transformer_options.get("patches_replace", {})
        others = replacements.get(self.replaces, {})
        sites = dict.fromkeys(site for adapter in adapters for site in adapter.sites)
        ours = {
            site: self.patch(
                site, tuple(a for a in adapters if site in a.sites), rows, others.get(site, others.get(site[:2]))
            )
            for site in sites
        }
        return {**transformer_options, "patches_replace": {**replacements, self.replaces: {**others, **ours}}}


def denoiser_of(family: Family) -> Denoiser:
    """Return the kind of denoiser that a family's base model has."""
    return Denoiser._kinds[family.denoiser]


def denoiser_of_file(image_projection: Mapping[str, Tensor]) -> Denoiser:
    """Return the kind of denoiser that an adapter is for, whose image projection has these tensors."""
    kinds = {kind.own_tensor: kind for kind in Denoiser._kinds.values()}
    return next((kind for name, kind in kinds.items() if name in image_projection), kinds[""])


def block_layers(family: Family, sites: Sequence[SiteKey]) -> dict[SiteKey, int]:
    """Return the layer's number for each block, which is the first two parts of its sites' keys."""
    return {site[:2]: layer.group for site, layer in zip(sites, denoiser_of(family).layers(sites), strict=True)}


def family_of_model(model: ModelView) -> Family | None:
    """Return the family whose adapters a model takes, or None."""
    kind = next((kind for kind in Denoiser._kinds.values() if kind.matches(model)), None)
    return kind and family_of_sites(kind.name, kind.sites(model))
