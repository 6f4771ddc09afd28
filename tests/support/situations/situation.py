"""Whole situations: everything a user may set at once, as the pack's nodes are given it.

`situation_oracle` computes what they mean; `hypothesis_strategies` draws them at random.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy_extras import nodes_custom_sampler as custom
from ipadapter_instruct.models.encoding.combining import combine_references
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.nodes.control.layer_weights import IPAdapterInstructLayers
from ipadapter_instruct.nodes.control.schedule import IPAdapterInstructSchedule
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from ipadapter_instruct.nodes.main.combine import IPAdapterInstructCombine
from torch import Tensor

import nodes as host_nodes
from support import small_models
from support.host_node import host_node
from support.pack_nodes import run_node
from support.sampling.scenes import Text, text
from support.situations.other_nodes import BESIDE
from support.situations.prompts import Prompt

KSAMPLER, BASIC, CFG_GUIDER = "KSampler", "BasicGuider", "CFGGuider"
EVENLY = {"weight_1": 1.0, "weight_2": 1.0}


@dataclass(frozen=True)
class Images:
    """Made-up references by their numbers, and how they act together. weights: one each, or none."""

    numbers: tuple[int, ...] = (0,)
    mode: str = "concat"
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mask:
    """Made-up masks, so many of this size. hard: of nothing but 0 and 1."""

    number: int
    height: int
    width: int
    hard: bool = False

    def tensor(self) -> Tensor:
        made = torch.Generator().manual_seed(self.number + 10 * self.height + 1000 * self.width)
        mask = torch.rand(self.number, self.height, self.width, generator=made)
        return mask.round() if self.hard else mask


@dataclass(frozen=True)
class Schedule:
    """Points of (position, factor), or factors alone for equal parts."""

    points: tuple[tuple[float, float], ...] | tuple[float, ...]
    between: str = "hold"
    along: str = "steps"

    @property
    def text(self) -> str:
        return ", ".join(": ".join(map(str, p)) if isinstance(p, tuple) else str(p) for p in self.points)


@dataclass(frozen=True)
class Layers:
    """own: factors by the names of layers, in place of the type's."""

    weight_type: str = "linear"
    own: tuple[tuple[str, float], ...] = ()
    scaling: str = "V only"

    @property
    def text(self) -> str:
        return "; ".join(f"{name}: {factor}" for name, factor in self.own)


@dataclass(frozen=True)
class Link:
    """One Apply. then: other images, and from where in the sampling on."""

    images: Images = Images()
    then: tuple[Images, float] | None = None
    instruction: str = "a dog"
    weight: float = 0.8
    guidance: str = "three-way"
    instruct_scale: float = 2.0
    image_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Mask | None = None
    batch_factors: tuple[float, ...] = ()
    schedule: Schedule | None = None
    layers: Layers | None = None
    three_way_until: float = 1.0


@dataclass(frozen=True)
class Situation:
    """A chain of Applies, and how it is sampled.

    prompts: several positives, each in its part of the picture and of the sampling; none: one, `positive`, everywhere.
    rising: from the picture to the noise. beside: another node, by its name in `BESIDE`.
    """

    family: str = "sd15"
    links: tuple[Link, ...] = (Link(),)
    batch: int = 1
    height: int = 8
    width: int = 12
    sampler: str = "euler"
    scheduler: str = "normal"
    steps: int = 2
    cfg: float = 4.0
    denoise: float = 1.0
    seed: int = 3
    through: str = KSAMPLER
    positive_length: int = 77
    prompts: tuple[Prompt, ...] = ()
    rising: bool = False
    beside: str = ""

    @functools.cached_property
    def positive(self) -> Text:
        return text("positive", self.family, self.positive_length)

    @functools.cached_property
    def negative(self) -> Text:
        return text("negative", self.family)

    def sampled(self, model) -> Tensor:
        """The latent that the host samples with a model in this situation."""
        model = BESIDE[self.beside](model)
        channels = model.model.latent_format.latent_channels
        latent = {"samples": torch.zeros(self.batch, channels, self.height, self.width)}
        positive, negative = ([[t.context, t.values]] for t in (self.positive, self.negative))
        if self.prompts:
            positive = [cond for prompt in self.prompts for cond in prompt.condition(self.family)]
        if self.through == KSAMPLER and not self.rising:
            return host_nodes.KSampler().sample(
                model, self.seed, self.steps, self.cfg, self.sampler, self.scheduler, positive, negative, latent,
                self.denoise,
            )[0]["samples"]  # fmt: skip
        guider = self._guider(model, positive, negative)
        sigmas = host_node(custom.BasicScheduler, model, self.scheduler, self.steps, self.denoise)[0]
        if self.rising:
            sigmas = host_node(custom.FlipSigmas, sigmas)[0]
        sampler, noise = comfy.samplers.sampler_object(self.sampler), host_node(custom.RandomNoise, self.seed)[0]
        return host_node(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent)[0]["samples"]

    def _guider(self, model, positive: list, negative: list):
        if self.through == BASIC:
            return host_node(custom.BasicGuider, model, positive)[0]
        return host_node(custom.CFGGuider, model, positive, negative, self.cfg)[0]


def made_up_tokens(family: str, number: int) -> Branches[Tensor]:
    """[1, T, D] for each branch, of a made-up picture."""
    return small_models.shared_adapter_and_tokens(family)[1].map(lambda t: t.roll(7 * number, dims=-1))


def applied(situation: Situation, model=None):
    """The model with all links applied by the nodes; the small model, unless another is given."""
    model = small_models.shared_model(situation.family) if model is None else model
    for link in situation.links:
        model = run_node(IPAdapterInstructApply, model=model, **_inputs(situation.family, link)).args[0]
    return model


def _inputs(family: str, link: Link) -> dict:
    """The Apply node's inputs."""
    embeds = _embeds(family, link, link.images)
    if link.then:
        images, at = link.then
        then = _embeds(family, link, images)
        embeds = run_node(
            IPAdapterInstructCombine, embeds_1=embeds, embeds_2=then, method="then", at_percent=at, **EVENLY
        ).args[0]
    inputs = {
        "embeds": embeds,
        "weight": link.weight,
        "guidance": link.guidance,
        "instruct_guidance": link.instruct_scale,
        "image_guidance": link.image_scale,
        "start_percent": link.start,
        "end_percent": link.end,
    }
    if link.mask:
        inputs["attn_mask"] = link.mask.tensor()
    if link.schedule or link.batch_factors or link.three_way_until < 1:
        schedule = link.schedule or Schedule(())
        own = {"factors": schedule.text, "between": schedule.between, "along": schedule.along}
        own["batch_factors"] = ", ".join(map(str, link.batch_factors))
        inputs["schedule"] = run_node(IPAdapterInstructSchedule, **own, three_way_until=link.three_way_until).args[0]
    if link.layers:
        own = {"weight_type": link.layers.weight_type, "layer_weights": link.layers.text}
        inputs["layers"] = run_node(IPAdapterInstructLayers, scaling=link.layers.scaling, **own).args[0]
    return inputs


def _embeds(family: str, link: Link, images: Images) -> InstructEmbeds:
    """The embeds that Encode makes of them."""
    own = [made_up_tokens(family, number) for number in images.numbers]
    together = Branches(*(torch.cat(rows) for rows in zip(*(vars(t).values() for t in own), strict=True)))
    tokens = combine_references(together, images.mode, images.weights)
    return InstructEmbeds.of(small_models.shared_adapter_and_tokens(family)[0], link.instruction, tokens)
