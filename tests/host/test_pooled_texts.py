"""Several positives at once: every part of the picture and of the sampling has what its own prompt alone would give.

The law: a step of several positives is the average of the steps of each of them alone, by the weights that the host
gives to their predictions. Which these are is written out here. It holds of any guidance, since predictions enter it
linearly; SDXL's and SD3's pooled texts are what could break it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.hooks
import pytest
import small
import torch
from passes import rows
from sampling import close, noise, noise_prediction, same
from scenes import text
from torch import Tensor

import nodes as host_nodes

HEIGHT, WIDTH = 16, 24
SCALES = {"instruct_scale": 6.0, "image_scale": 0.5}


@dataclass(frozen=True)
class Prompt:
    """A positive: its text, and where, when and how strongly it acts. area: height, width, top, left, of the latent."""

    name: str
    span: tuple[float, float] = (0.0, 1.0)
    mask: Tensor | None = None
    strength: float = 1.0
    area: tuple[int, int, int, int] | None = None
    lora: float = 0.0
    is_default: bool = False

    def condition(self, family: str) -> list:
        """As the host's nodes make it."""
        own = text(self.name, family)
        cond = [[own.context, dict(own.values)]]
        if self.span != (0.0, 1.0):
            cond = host_nodes.ConditioningSetTimestepRange().set_range(cond, *self.span)[0]
        if self.mask is not None:
            cond = host_nodes.ConditioningSetMask().append(cond, self.mask, "default", self.strength)[0]
        if self.area is not None:
            height, width, top, left = (8 * side for side in self.area)
            cond = host_nodes.ConditioningSetArea().append(cond, width, height, left, top, self.strength)[0]
        if self.lora:
            cond = comfy.hooks.set_hooks_for_conditioning(cond, hooks=lora_hook(family, self.lora))
        if self.is_default:
            cond = comfy.hooks.set_default_conds_and_combine([[]], [cond])[0]
        return cond

    def acts(self, percent: float) -> bool:
        return self.span[0] <= percent <= self.span[1]

    def weight(self) -> Tensor:
        """[H, W]. The areas here leave out the host's fading edges by their masks."""
        here = torch.ones(HEIGHT, WIDTH) if self.mask is None else self.mask[0].clone()
        if self.area is not None:
            height, width, top, left = self.area
            inside = torch.zeros(HEIGHT, WIDTH)
            inside[top : top + height, left : left + width] = 1
            here = here * inside
        return here * (self.strength if self.mask is not None or self.area is not None else 1.0)


def lora_hook(family: str, strength: float):
    """A LoRA on one layer that each of the small models has."""
    layer = {"sd3": "joint_blocks.1.x_block.attn.proj"}.get(family, "time_embed.2")
    made = torch.Generator().manual_seed(1)
    weight = small.small_model(family).model.state_dict()[f"diffusion_model.{layer}.weight"]
    parts = {"up": (weight.shape[0], 2), "down": (2, weight.shape[1])}
    lora = {f"diffusion_model.{layer}.lora_{n}.weight": torch.randn(s, generator=made) for n, s in parts.items()}
    return comfy.hooks.create_hook_lora(lora, strength, 0.0)


def half(left: bool) -> Tensor:
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[..., : WIDTH // 2] = 1
    return mask if left else 1 - mask


def fading() -> Tensor:
    return torch.linspace(0.1, 0.9, WIDTH).expand(1, HEIGHT, WIDTH).clone()


ONE, TWO, THREE = (Prompt(name) for name in ("prompt one", "prompt two, another", "a third"))
SITUATIONS = {
    "one after the other": (replace(ONE, span=(0.0, 0.5)), replace(TWO, span=(0.5, 1.0))),
    "together for a while": (replace(ONE, span=(0.0, 0.7)), replace(TWO, span=(0.3, 1.0))),
    "the later one first": (replace(TWO, span=(0.5, 1.0)), replace(ONE, span=(0.0, 0.5))),
    "two halves": (replace(ONE, mask=half(True)), replace(TWO, mask=half(False))),
    "strengths of their own": (ONE, replace(TWO, mask=fading(), strength=0.6)),
    "masks that fade into each other": (replace(ONE, mask=fading()), replace(TWO, mask=1 - fading())),
    "areas side by side": (
        replace(ONE, area=(HEIGHT, 12, 0, 0), mask=half(True)),
        replace(TWO, area=(HEIGHT, 12, 0, 12), mask=half(False)),
    ),
    "LoRAs of their own": (replace(ONE, lora=1.0, mask=half(True)), replace(TWO, lora=-0.7, mask=half(False))),
    "the rest of the picture": (replace(ONE, mask=half(True)), replace(TWO, is_default=True)),
    "the rest beside a fading one": (replace(ONE, mask=fading()), replace(TWO, is_default=True)),
    "three, by place and time": (
        replace(ONE, mask=half(True), span=(0.0, 0.5)),
        replace(TWO, mask=half(True), span=(0.5, 1.0)),
        replace(THREE, mask=half(False)),
    ),
    "two without any bounds": (ONE, TWO),
}


@pytest.fixture(scope="module", params=small.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def bare(family):
    return small.small_model(family)


@pytest.fixture(scope="module")
def embeds(family):
    return small.golden_embeds(family, "use the composition")


def weights(prompts: tuple[Prompt, ...], percent: float) -> list[Tensor | None]:
    """Of each prompt's prediction; None for one that does not act. A default has what the others leave."""
    own = [p.weight() if p.acts(percent) and not p.is_default else None for p in prompts]
    rest = (1 - sum(w for w in own if w is not None)).clamp(min=0) if any(p.is_default for p in prompts) else None
    return [rest if p.is_default and p.acts(percent) else w for p, w in zip(prompts, own, strict=True)]


def step(model, positive: list, negative: list, percent: float) -> Tensor:
    sampling = model.get_model_object("model_sampling")
    sigma = torch.tensor([sampling.percent_to_sigma(percent)], dtype=torch.float32)
    return noise_prediction(model, (positive, negative), 4.0, noise(model, 1, HEIGHT, WIDTH), sigma)


def alone(prompt: Prompt) -> Prompt:
    """The same prompt everywhere and always; its area stays what the model sees of the picture."""
    return replace(prompt, span=(0.0, 1.0), mask=None, strength=1.0, is_default=False)


@pytest.mark.parametrize("guidance", ["three-way", "simple"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_each_part_has_what_its_own_prompt_alone_would_give(family, bare, embeds, name, guidance):
    prompts, negative = SITUATIONS[name], Prompt("negative").condition(family)
    model = small.applied(bare, embeds, guidance=guidance, **SCALES)
    positive = [cond for prompt in prompts for cond in prompt.condition(family)]
    for percent in (0.2, 0.8):
        found = step(model, positive, negative, percent)
        own = weights(prompts, percent)
        acting = [(prompt, w) for prompt, w in zip(prompts, own, strict=True) if w is not None]
        parts = [w * step(model, alone(prompt).condition(family), negative, percent) for prompt, w in acting]
        close(found, sum(parts) / sum(w for _, w in acting))


def test_negatives_bound_to_their_positives_go_with_them(family, bare, embeds):
    """Pairs of prompts with masks, as Cond Pair Set Props makes them."""
    model = small.applied(bare, embeds, guidance="three-way", **SCALES)
    pairs = [(ONE, Prompt("negative"), half(True)), (TWO, Prompt("another negative"), half(False))]
    sides = zip(*(((p, m), (n, m)) for p, n, m in pairs), strict=True)
    positive, negative = ([c for q, m in side for c in replace(q, mask=m).condition(family)] for side in sides)
    found = step(model, positive, negative, 0.5)
    for own, other, mask in pairs:
        expected = step(model, own.condition(family), other.condition(family), 0.5)
        close(found * mask, expected * mask)


def test_prompts_of_one_pooled_text_need_no_further_passes(family, bare, embeds):
    model = small.applied(bare, embeds, guidance="three-way", **SCALES)
    positive = replace(ONE, mask=half(True)).condition(family) + replace(ONE, mask=half(False)).condition(family)
    negative = Prompt("negative").condition(family)
    assert rows(bare, lambda: step(model, positive, negative, 0.5)) == [5]
    close(step(model, positive, negative, 0.5), step(model, ONE.condition(family), negative, 0.5))


def test_where_one_prompt_acts_alone_no_pass_is_run_for_another(family, bare, embeds):
    model = small.applied(bare, embeds, guidance="three-way", **SCALES)
    positive = [c for p in SITUATIONS["one after the other"] for c in p.condition(family)]
    negative = Prompt("negative").condition(family)
    assert rows(bare, lambda: step(model, positive, negative, 0.8)) == [4]
    same(step(model, positive, negative, 0.8), step(model, TWO.condition(family), negative, 0.8))
