"""Watch the attention to the image tokens while a model samples. It changes nothing of the image.

Axes: R rows of a batch (chunks x latents), C chunks, b latents of a chunk, N image positions, L other tokens,
T image tokens, D width, h and w a map's height and width.
"""

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
from ..patching.chain import CHAIN, Shared
from ..patching.pooled_texts import Conds
from ..patching.run import OBSERVER, Run, StepAdapter
from .heat_maps import Mean, attention_to, placed

MOST_MOMENTS = 200  # moments that are kept; beyond it neighbours are merged two by two
CROSS_ATTENTION = "c_crossattn"

Of = tuple[int, int]
"""The number of an adapter in the run, and of a latent in the whole batch."""


def watched(model) -> "tuple[object, Watch]":
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
class Look(Shared):
    """A look at one step's call, on each device: at the full branch only, simple guidance's conditional one.

    texts: the length of each condition's text. sums: by device, adapter, latents and block, the image tokens' share
    [b, h, w]; without a block, what each of them gets of it, [b, T, h, w]. Threads add to them.
    """

    run: Run
    texts: Mapping[UUID, int]
    sums: dict[tuple, Mean] = field(default_factory=dict)
    _adding: threading.Lock = field(default_factory=threading.Lock, init=False)

    def see(self, adapter: StepAdapter, site: SiteKey, rows: BatchRows, attention: Attention) -> None:
        """Add the attention at a site. Tiles of an image are left out, since nothing tells where they belong."""
        number = [one.applied for one in self.run.adapters].index(adapter.applied)
        for chunk, (branch, area) in enumerate(zip(rows.branches, rows.areas, strict=True)):
            if branch is not Branch.FULL or rows.input_size != (rows.latent_size if area is None else area[:2]):
                continue
            given = attention.queries, attention.keys, attention.others
            queries, keys, others = (x.chunk(len(rows.branches))[chunk] for x in given)
            if attention.texts is not None:  # the host repeats a text to the length of a longer one in the batch
                others = others[:, : self.texts[attention.texts[chunk]]]
            share, tokens = attention_to(queries, keys, others, attention.heads)
            share = placed(share.unflatten(1, (1, *attention.grid)), area, rows.latent_size)[:, 0]
            tokens = placed(tokens.unflatten(2, attention.grid), area, rows.latent_size)
            of = queries.device, number, rows.batch_indices
            with self._adding:
                _add(self.sums, (*of, site[:2]), share)
                _add(self.sums, (*of, None), tokens)


@dataclass(frozen=True, eq=False)
class Moment:
    """One noise level: the maps of all blocks together."""

    noise_level: float
    position: float
    maps: dict[Of, Mean]

    def __add__(self, later: "Moment") -> "Moment":
        maps = dict(self.maps)
        for of, mean in later.maps.items():
            _add(maps, of, mean)
        return Moment(self.noise_level, self.position, maps)


@dataclass(eq=False)
class Watch(Shared):
    """A record of what was seen in the last sampling run, on the CPU. Shared by the clones of a model.

    instructions: of the adapters that took part, in the chain's order. layers: each block's number.
    moments: one for each call of the model, or for neighbouring ones together when they are many.
    blocks, tokens: means over the run. A block holds several attentions in SDXL, and one elsewhere.
    """

    instructions: tuple[str, ...] = ()
    layers: Mapping[SiteKey, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    blocks: dict[SiteKey, dict[Of, Mean]] = field(default_factory=dict)
    tokens: dict[Of, Mean] = field(default_factory=dict)

    def begin(self, run: Run, layers: Mapping[SiteKey, int]) -> None:
        """Forget the run before."""
        self.__init__(tuple(adapter.applied.instruction for adapter in run.adapters), layers)

    @contextlib.contextmanager
    def step(self, run: Run, conds: Conds, noise_level: Tensor, in_parts: bool) -> Iterator[Look]:
        """Keep what a call shows. in_parts: it holds some of the latents, and others follow at the same level."""
        look = Look(run, {cond["uuid"]: cond["model_conds"][CROSS_ATTENTION].cond.shape[1] for cond in conds})
        yield look
        sums, maps = {}, {}
        for (_, *key), seen in look.sums.items():
            _add(sums, tuple(key), seen.to("cpu"))
        for (number, batch_indices, block), seen in sums.items():
            for row, batch_index in enumerate(batch_indices):
                of = number, batch_index
                if block is None:
                    _add(self.tokens, of, seen[row])
                    continue
                for means in (maps, self.blocks.setdefault(block, {})):
                    _add(means, of, seen[row].as_one())
        if not maps:
            return
        level = float(noise_level)
        moment = Moment(level, run.steps.at(level), maps)
        if in_parts and self.moments and self.moments[-1].noise_level == level:
            self.moments[-1] += moment
        else:
            kept = self.moments if len(self.moments) < MOST_MOMENTS else _merged(self.moments, MOST_MOMENTS // 2)
            self.moments = [*kept, moment]

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
        some = next(iter(maps.values()))
        missing = Mean(torch.zeros_like(some.total), torch.zeros_like(some.coverage))
        adapters, latents = range(len(self.instructions)), range(self.latents)
        return torch.stack([torch.stack([maps.get((a, n), missing).value for n in latents]) for a in adapters])


def _add(means: dict, key, more: Mean) -> None:
    means[key] = means[key] + more if key in means else more


def _merged(moments: Sequence[Moment], parts: int) -> list[Moment]:
    parts = min(parts, len(moments))
    edges = [len(moments) * part // parts for part in range(parts + 1)]
    runs = (moments[start:end] for start, end in zip(edges, edges[1:], strict=False))
    return [sum(run[1:], start=run[0]) for run in runs]
