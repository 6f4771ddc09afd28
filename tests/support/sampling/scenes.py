"""Scenes for sampler tests: the same prompts for the pack's model and for the oracle.

A scene holds random texts and a chain of adapters, and gives each conditioning list in both forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from ipadapter_instruct.models.guidance.branches import Branches
from torch import Tensor

from support import small_models
from support.golden_cases import golden_case
from support.sampling.oracle_model import OracleAdapter, Term, oracle_model


@dataclass(frozen=True)
class Text:
    """A made-up prompt: context [1, L, D], and pooled [1, P] where the family has it."""

    context: Tensor
    pooled: Tensor | None

    @property
    def values(self) -> dict:
        return {} if self.pooled is None else {"pooled_output": self.pooled}


def text(name: str, family: str, length: int = 77) -> Text:
    golden = golden_case(family).values
    made = torch.Generator().manual_seed(sum(map(ord, name)))
    pooled = golden.get("pooled.positive")
    return Text(
        context=torch.randn(1, length, golden["text.positive"].shape[-1], generator=made),
        pooled=None if pooled is None else torch.randn(pooled.shape, generator=made),
    )


@dataclass(frozen=True)
class Link:
    """One Apply of a chain: its settings, and which made-up picture it shows."""

    weight: float = 0.8
    guidance: str = "three-way"
    instruct_scale: float = 2.0
    image_scale: float = 0.75
    picture: int = 0


@dataclass
class Scene:
    """`positive` and `negative` are its own texts; further ones share the branches' tokens."""

    family: str = "sd15"
    links: tuple[Link, ...] = (Link(),)
    positive: Text = None
    negative: Text = None
    adapter: object = None
    tokens: list[Branches[Tensor]] = field(default_factory=list)

    def __post_init__(self):
        self.positive = text("positive", self.family) if self.positive is None else self.positive
        self.negative = text("negative", self.family) if self.negative is None else self.negative
        self.adapter, golden = small_models.shared_adapter_and_tokens(self.family)
        self.tokens = [golden.map(lambda t, n=link.picture: t.roll(7 * n, dims=-1)) for link in self.links]

    def model(self, prepare):
        """The pack's: a small model, prepared, with every link applied."""
        model = prepare(small_models.shared_model(self.family).clone())
        for link, tokens in zip(self.links, self.tokens, strict=True):
            settings = {k: v for k, v in vars(link).items() if k != "picture"}
            model = small_models.applied(model, small_models.InstructEmbeds(self.adapter, "", tokens), **settings)
        return model

    def oracle(self, prepare):
        weights = golden_case(self.family).adapter_weights
        return prepare(oracle_model(self.family, tuple(OracleAdapter(weights, link.weight) for link in self.links)))

    def terms(self, kind: str, own: Text, positives: list[Text]) -> list[Term]:
        """The terms that a condition of this kind, with `own` text, stands for.

        kind: "positive", "negative", "further negative", or "full" for a positive without any negative.
        positives: all positive conditions that act in the same part of the picture and of the sampling. A negative
            averages over what it is beside each of them, with its pooled text in everything and image_only.
        """
        three_way = [link for link in self.links if link.guidance == "three-way"]
        if kind == "full" or (kind == "positive" and not three_way):
            return [self._term(1.0, "full", own, own)]
        if not three_way:
            return [self._term(1.0, "uncond", own, own)]
        wi, wim = three_way[-1].instruct_scale, three_way[-1].image_scale
        fulls = [own] if kind == "positive" else positives
        everything, image_only = (1 - wi, wim - 1) if kind == "positive" else (-wi, wim)
        terms = []
        for positive in fulls:
            terms += [
                self._term(wi / len(fulls), "full", positive, positive),
                self._term(everything / len(fulls), "everything", self.negative, positive),
                self._term(image_only / len(fulls), "image_only", self.negative, positive),
            ]
        # Last of the negative side: Self-Attention Guidance keeps the attention of the last one that it sees.
        terms.append(self._term(1 - wim, "uncond", self.negative, self.negative))
        if kind == "further negative":
            terms += [self._term(1.0, "uncond", own, own), self._term(-1.0, "uncond", self.negative, self.negative)]
        return [term for term in terms if term.coefficient != 0]

    def _term(self, coefficient: float, branch: str, text: Text, pooled: Text) -> Term:
        conditional = branch in ("full", "everything")
        simple = "full" if conditional else "uncond"
        names = [branch if link.guidance == "three-way" else simple for link in self.links]
        tokens = tuple(getattr(t, name) for t, name in zip(self.tokens, names, strict=True))
        return Term(coefficient, conditional, text.context, pooled.pooled, tokens)

    def own_text(self, kind: str) -> Text:
        return self.negative if kind == "negative" else self.positive


class PackForm:
    """Conditioning as a user's graph has it: texts alone."""

    def __init__(self, scene: Scene, prepare=lambda model: model):
        self.scene = scene
        self.model = scene.model(prepare)

    def conditions(self, kind: str, own: Text | None = None, positives=None, **values) -> list:
        own = own or self.scene.own_text(kind)
        return [[own.context, {**own.values, **values}]]


class OracleForm:
    """Conditioning for the oracle: every condition carries its terms."""

    def __init__(self, scene: Scene, prepare=lambda model: model):
        self.scene = scene
        self.model = scene.oracle(prepare)

    def conditions(self, kind: str, own: Text | None = None, positives=None, **values) -> list:
        own = own or self.scene.own_text(kind)
        positives = positives or [own if kind == "positive" else self.scene.positive]
        terms = self.scene.terms(kind, own, positives)
        return [[own.context, {**values, "terms": terms}]]
