"""Several positives at once: every part of the picture and of the sampling has what its own prompt alone would give.

The law: a step of several positives is the average of the steps of each of them alone, by the weights that the host
gives to their predictions. Which these are is written out here. It holds of any guidance, since predictions enter it
linearly; SDXL's and SD3's pooled texts are what could break it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import small_models
from support.sampling.counting import rows
from support.sampling.short_runs import close, noise, noise_prediction, same
from support.situations.prompts import Prompt, weights
from torch import Tensor

HEIGHT, WIDTH = 8, 12
SCALES = {"instruct_scale": 6.0, "image_scale": 0.5}


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
        replace(ONE, area=(HEIGHT, WIDTH // 2, 0, 0), mask=half(True)),
        replace(TWO, area=(HEIGHT, WIDTH // 2, 0, WIDTH // 2), mask=half(False)),
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


def level_at(sampling, percent: float) -> Tensor:
    return torch.tensor([sampling.percent_to_sigma(percent)], dtype=torch.float32)


def step(model, positive: list, negative: list, percent: float) -> Tensor:
    sigma = level_at(model.get_model_object("model_sampling"), percent)
    return noise_prediction(model, (positive, negative), 4.0, noise(model, 1, HEIGHT, WIDTH), sigma)


@pytest.mark.spread("family", "name")
@pytest.mark.parametrize("guidance", ["three-way", "simple"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_each_part_has_what_its_own_prompt_alone_would_give(family, bare, embeds, name, guidance):
    prompts, negative = SITUATIONS[name], Prompt("negative").condition(family)
    model = small_models.applied(bare, embeds, guidance=guidance, **SCALES)
    positive = [cond for prompt in prompts for cond in prompt.condition(family)]
    for percent in (0.2, 0.8):
        found, sampling = step(model, positive, negative, percent), bare.get_model_object("model_sampling")
        own = weights(prompts, (HEIGHT, WIDTH), sampling, level_at(sampling, percent)[0])
        acting = [(prompt, w) for prompt, w in zip(prompts, own, strict=True) if w is not None]
        parts = [w * step(model, prompt.alone.condition(family), negative, percent) for prompt, w in acting]
        close(found, sum(parts) / sum(w for _, w in acting))


def test_negatives_bound_to_their_positives_go_with_them(family, bare, embeds):
    """Pairs of prompts with masks, as Cond Pair Set Props makes them."""
    model = small_models.applied(bare, embeds, guidance="three-way", **SCALES)
    pairs = [(ONE, Prompt("negative"), half(True)), (TWO, Prompt("another negative"), half(False))]
    sides = zip(*(((p, m), (n, m)) for p, n, m in pairs), strict=True)
    positive, negative = ([c for q, m in side for c in replace(q, mask=m).condition(family)] for side in sides)
    found = step(model, positive, negative, 0.5)
    for own, other, mask in pairs:
        expected = step(model, own.condition(family), other.condition(family), 0.5)
        close(found * mask, expected * mask)


def test_prompts_of_one_pooled_text_need_no_further_passes(family, bare, embeds):
    model = small_models.applied(bare, embeds, guidance="three-way", **SCALES)
    positive = replace(ONE, mask=half(True)).condition(family) + replace(ONE, mask=half(False)).condition(family)
    negative = Prompt("negative").condition(family)
    assert rows(bare, lambda: step(model, positive, negative, 0.5)) == [5]
    close(step(model, positive, negative, 0.5), step(model, ONE.condition(family), negative, 0.5))


def test_where_one_prompt_acts_alone_no_pass_is_run_for_another(family, bare, embeds):
    model = small_models.applied(bare, embeds, guidance="three-way", **SCALES)
    positive = [c for p in SITUATIONS["one after the other"] for c in p.condition(family)]
    negative = Prompt("negative").condition(family)
    assert rows(bare, lambda: step(model, positive, negative, 0.8)) == [4]
    same(step(model, positive, negative, 0.8), step(model, TWO.condition(family), negative, 0.8))
