"""Scenes for sampler tests: the same prompts for the pack's model and for the oracle.

A scene holds random texts and a chain of adapters, and gives each conditioning list in both forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import small  # first: it makes comfy importable

import torch
from golden_cases import golden_case
from ipadapter_instruct.models.branches import Branches
from oracle import OracleAdapter, Term, oracle_model
from torch import Tensor

WIDTH = {"sd15": 96}


def text(name: str, family: str, length: int = 77) -> Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.randn(1, length, WIDTH[family], generator=generator)


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
    """`positive`, `negative`: text [1, L, D] each; several positives share their branches' tokens."""

    family: str = "sd15"
    links: tuple[Link, ...] = (Link(),)
    positive: Tensor = None
    negative: Tensor = None
    adapter: object = None
    tokens: list[Branches[Tensor]] = field(default_factory=list)

    def __post_init__(self):
        self.positive = text("positive", self.family) if self.positive is None else self.positive
        self.negative = text("negative", self.family) if self.negative is None else self.negative
        self.adapter = small.small_adapter(self.family)
        golden = small.golden_tokens(golden_case(self.family), self.adapter)
        self.tokens = [golden.map(lambda t, n=link.picture: t.roll(7 * n, dims=-1)) for link in self.links]

    def model(self, prepare):
        """The pack's: a small model, prepared, with every link applied."""
        model = prepare(small.small_model(self.family))
        for link, tokens in zip(self.links, self.tokens, strict=True):
            settings = {k: v for k, v in vars(link).items() if k != "picture"}
            model = small.applied(model, small.InstructEmbeds(self.adapter, "", tokens), **settings)
        return model

    def oracle(self, prepare):
        weights = golden_case(self.family).adapter_weights
        return prepare(
            oracle_model(self.family, tuple(OracleAdapter(weights, link.weight) for link in self.links))
        )

    def terms(self, kind: str, own: Tensor | None = None, positives: list[Tensor] | None = None) -> list[Term]:
        """What a list of this kind stands for. own: its text, where it is not the scene's own.

        kind: "positive", "negative", "further negative", or "full" for a positive without any negative.
        positives: the texts of all positive conditions of the same area, which a negative averages over.
        """
        three_way = [link for link in self.links if link.guidance == "three-way"]
        positives = positives or [self.positive]
        if kind == "full" or (kind == "positive" and not three_way):
            return [self._term(1.0, self.positive if own is None else own, "full")]
        if not three_way:
            return [self._term(1.0, self.negative if own is None else own, "uncond")]
        wi, wim = three_way[-1].instruct_scale, three_way[-1].image_scale
        if kind == "positive":
            full = [self._term(wi, self.positive if own is None else own, "full")]
            rest = (1 - wi, wim - 1, 1 - wim)
        else:
            full = [self._term(wi / len(positives), p, "full") for p in positives]
            rest = (-wi, wim, 1 - wim)
        ladder = [
            self._term(c, self.negative, branch)
            for c, branch in zip(rest, ("everything", "image_only", "uncond"), strict=True)
        ]
        if kind == "further negative":
            ladder += [self._term(1.0, own, "uncond"), self._term(-1.0, self.negative, "uncond")]
        return full + [term for term in ladder if term.coefficient != 0]

    def _term(self, coefficient: float, text: Tensor, branch: str) -> Term:
        simple = "full" if branch in ("full", "everything") else "uncond"
        names = [branch if link.guidance == "three-way" else simple for link in self.links]
        tokens = tuple(getattr(t, name) for t, name in zip(self.tokens, names, strict=True))
        return Term(coefficient, branch in ("full", "everything"), text, tokens)


class PackForm:
    """Conditioning as a user's graph has it: texts alone."""

    def __init__(self, scene: Scene, prepare=lambda model: model):
        self.scene = scene
        self.model = scene.model(prepare)

    def conditions(self, kind: str, own: Tensor | None = None, positives=None, **values) -> list:
        default = self.scene.negative if kind == "negative" else self.scene.positive
        return [[default if own is None else own, values]]


class OracleForm:
    """Conditioning for the oracle: every condition carries its terms."""

    def __init__(self, scene: Scene, prepare=lambda model: model):
        self.scene = scene
        self.model = scene.oracle(prepare)

    def conditions(self, kind: str, own: Tensor | None = None, positives=None, **values) -> list:
        terms = self.scene.terms(kind, own, positives)
        return [[terms[0].text, {**values, "terms": terms}]]
