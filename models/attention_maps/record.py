"""Watch the attention to the image tokens while a model samples. It changes nothing of the image.

Axes: R rows of a batch (chunks x latents), C chunks, b latents of a chunk, N image positions, L other tokens,
T image tokens, D width, h and w a map's height and width.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import torch
from torch import Tensor

from ..denoisers.model_view import SiteKey
from ..denoisers.rows import Attention, BatchRows
from ..guidance.branches import Branch
from ..patching.chain import CHAIN
from ..patching.pooled_texts import Conds
from ..patching.run import OBSERVER, Run, StepAdapter
from .heat_maps import Mean, attention_to, placed

MOST_MOMENTS = 200  # moments that are kept; beyond it neighbours are merged two by two
CROSS_ATTENTION = "c_crossattn"

Of = tuple[int, int]
"""The number of an adapter in the run, and of a latent in the whole batch."""


def watched(model) -> tuple[object, Watch]:
    """Return a clone of a ModelPatcher that is watched while it samples. Raises ValueError when it has no adapter."""
    patched, watch = model.clone(), Watch()
    options = patched.model_options["transformer_options"]
    if CHAIN not in options:
        raise ValueError(
            "A model with an adapter applied was expected; this one has none. Connect the model of Apply "
            "IPAdapter-Instruct, of the last one if there are several."
        )
    options[OBSERVER] = watch
    return patched, watch


@dataclass(frozen=True, eq=False)
class Look:
    """A look at one step's call, on each device: at the full branch only, simple guidance's conditional one.

    texts: the length of each condition's text. shares, tokens: sums, by the device first; threads add to them.
    """

    run: Run
    texts: Mapping[UUID, int]
    shares: dict[tuple, Mean] = field(default_factory=dict)
    tokens: dict[tuple, Mean] = field(default_factory=dict)
    _adding: threading.Lock = field(default_factory=threading.Lock, init=False)

    def see(self, adapter: StepAdapter, site: SiteKey, rows: BatchRows, attention: Attention) -> None:
        """Add the attention at a site. Tiles of an image are left out, since nothing tells where they belong."""
        number = [one.applied for one in self.run.adapters].index(adapter.applied)
        for chunk, (branch, area) in enumerate(zip(rows.branches, rows.areas, strict=True)):
            whole = rows.input_size == (rows.latent_size if area is None else area[:2])
            if branch is Branch.FULL and whole:
                share, tokens = (
                    placed(maps, area, rows.latent_size) for maps in self._maps(attention, chunk, len(rows.branches))
                )
                device = share.total.device
                with self._adding:
                    _add(self.shares, (device, number, rows.batch_indices, site[:2]), share[:, 0])
                    _add(self.tokens, (device, number, rows.batch_indices), tokens)

    def _maps(self, seen: Attention, chunk: int, chunks: int) -> tuple[Tensor, Tensor]:
        """Return a chunk's maps: the image tokens' share [b, 1, h, w], and what each of them gets of it, [b, T, h, w].

        Of text only as much as the condition has: the host repeats it to the length of a longer one in the batch.
        """
        queries, keys, others = (x.chunk(chunks)[chunk] for x in (seen.queries, seen.keys, seen.others))
        if seen.texts is not None:
            others = others[:, : self.texts[seen.texts[chunk]]]
        share, tokens = attention_to(queries, keys, others, seen.heads)
        return share.unflatten(1, (1, *seen.grid)), tokens.unflatten(2, seen.grid)

    def __deepcopy__(self, memo: dict) -> Look:
        return self


@dataclass(frozen=True, eq=False)
class Moment:
    """One noise level: the maps of all blocks together."""

    noise_level: float
    position: float
    maps: dict[Of, Mean]

    def __add__(self, later: Moment) -> Moment:
        maps = dict(self.maps)
        for of, mean in later.maps.items():
            _add(maps, of, mean)
        return Moment(self.noise_level, self.position, maps)


class Watch:
    """A record of what was seen in the last sampling run, on the CPU. Shared by the clones of a model.

    instructions: of the adapters that took part, in the chain's order. layers: each block's number.
    moments: one for each call of the model, or for neighbouring ones together when they are many.
    blocks, tokens: means over the run. A block holds several attentions in SDXL, and one elsewhere.
    """

    def __init__(self):
        self.instructions: tuple[str, ...] = ()
        self.layers: Mapping[SiteKey, int] = {}
        self.moments: list[Moment] = []
        self.blocks: dict[SiteKey, dict[Of, Mean]] = {}
        self.tokens: dict[Of, Mean] = {}

    def __deepcopy__(self, memo: dict) -> Watch:
        return self

    def begin(self, run: Run, layers: Mapping[SiteKey, int]) -> None:
        """Forget the run before."""
        self.__init__()
        self.instructions = tuple(adapter.applied.instruction for adapter in run.adapters)
        self.layers = layers

    @contextlib.contextmanager
    def step(self, run: Run, conds: Conds, noise_level: Tensor, in_parts: bool) -> Iterator[Look]:
        """Keep what a call shows. in_parts: it holds some of the latents, and others follow at the same level."""
        look = Look(run, {cond["uuid"]: cond["model_conds"][CROSS_ATTENTION].cond.shape[1] for cond in conds})
        yield look
        level, maps = float(noise_level), {}
        for (number, batch_indices, block), seen in _of_all_devices(look.shares).items():
            for of, one in _each(number, batch_indices, seen.as_one().to("cpu")):
                _add(maps, of, one)
                _add(self.blocks.setdefault(block, {}), of, one)
        for (number, batch_indices), seen in _of_all_devices(look.tokens).items():
            for of, one in _each(number, batch_indices, seen.to("cpu")):
                _add(self.tokens, of, one)
        if maps:
            self._keep(Moment(level, run.steps.at(level), maps), in_parts)

    def _keep(self, moment: Moment, in_parts: bool) -> None:
        if in_parts and self.moments and self.moments[-1].noise_level == moment.noise_level:
            self.moments[-1] += moment
            return
        if len(self.moments) == MOST_MOMENTS:
            self.moments = _merged(self.moments, MOST_MOMENTS // 2)
        self.moments.append(moment)

    @property
    def latents(self) -> int:
        """The number of latents that were sampled; 0 when nothing was seen."""
        return max((latent for _, latent in self.tokens), default=-1) + 1

    def mean(self) -> Tensor:
        """Return the share over all calls and blocks, [adapters, latents, h, w]."""
        return self._stacked(_merged(self.moments, 1)[0].maps)

    def over_steps(self, parts: int) -> list[tuple[float, Tensor]]:
        """Return the share in so many parts of the run, or fewer, each with its first position in the steps."""
        return [(moment.position, self._stacked(moment.maps)) for moment in _merged(self.moments, parts)]

    def over_blocks(self) -> dict[str, Tensor]:
        """Return the share in each block, in the order in which they run, by the layer's number and the block's."""
        return {
            f"layer {self.layers[kind, number]}, {kind.replace('_', ' ')} {number}": self._stacked(maps)
            for (kind, number), maps in self.blocks.items()
        }

    def token_maps(self) -> dict[int, Tensor]:
        """Return what each image token gets of its adapter's share, [latents, T, h, w], which sums to 1 over them."""
        acting = sorted({adapter for adapter, _ in self.tokens})
        latents = range(self.latents)
        return {adapter: torch.stack([self.tokens[adapter, n].value for n in latents]) for adapter in acting}

    def _stacked(self, maps: Mapping[Of, Mean]) -> Tensor:
        """Stack the maps of all adapters and latents: zeros where an adapter did not act."""
        some = next(iter(maps.values()))
        missing = Mean(torch.zeros_like(some.total), torch.zeros_like(some.coverage))
        adapters, latents = range(len(self.instructions)), range(self.latents)
        return torch.stack([torch.stack([maps.get((a, n), missing).value for n in latents]) for a in adapters])


def _add(means: dict, key, more: Mean) -> None:
    means[key] = means[key] + more if key in means else more


def _of_all_devices(sums: Mapping[tuple, Mean]) -> dict[tuple, Mean]:
    """Add up sums by their keys without the device, on one of the devices."""
    together: dict[tuple, Mean] = {}
    first = next(iter(sums), ("cpu",))[0]
    for (_, *of), seen in sums.items():
        _add(together, tuple(of), seen.to(first))
    return together


def _each(number: int, batch_indices: Sequence[int], seen: Mean) -> Iterator[tuple[Of, Mean]]:
    return (((number, batch_index), seen[row]) for row, batch_index in enumerate(batch_indices))


def _merged(moments: Sequence[Moment], parts: int) -> list[Moment]:
    """Merge neighbours into so many parts as alike as can be, or one each when there are no more than that."""
    parts = min(parts, len(moments))
    edges = [len(moments) * part // parts for part in range(parts + 1)]
    runs = (moments[start:end] for start, end in zip(edges, edges[1:], strict=False))
    return [sum(run[1:], start=run[0]) for run in runs]
