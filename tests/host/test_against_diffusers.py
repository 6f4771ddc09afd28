"""Plain IP-Adapters against diffusers' own loading of the same tensors, on the same small random UNet.

float32; tokens and predictions are of order 1. Tolerance 2e-5; see docs/measurements.md for what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.weights import draw
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.encoding.combining import combine_references
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.features import Features
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.encoding.tokens import Texts, token_encoder
from support import small_models, small_plain_adapters
from support.sampling import diffusers_oracle as oracle
from support.sampling.short_runs import noise_level_and_input, noise_prediction
from support.small_plain_adapters import SITES
from torch import Tensor

pytest.importorskip("diffusers")
pytestmark = pytest.mark.xdist_group("diffusers")

TOLERANCE = 2e-5
TIMESTEP = 500


@dataclass(frozen=True)
class Case:
    """A kind of adapter of a family, small; the name its file has; and what diffusers calls its version."""

    family: str
    sizes: Plain
    file: str = "adapter.safetensors"


SMALL = {"width": 64, "heads": 2}
CASES = {
    "base": Case("sd15", Plain("base", image=48)),
    "plus": Case("sd15", Plain("plus", tokens=16, image=40, **SMALL)),
    "full-face": Case("sd15", Plain("full-face", image=40)),
    "faceid": Case("sd15", Plain("faceid", rank=4)),
    "portrait": Case("sd15", Plain("faceid", tokens=16)),
    "faceid-plus": Case("sd15", Plain("faceid-plus", image=40, width=768, heads=12, rank=4)),
    "faceid-plusv2": Case("sd15", Plain("faceid-plus", image=40, width=768, heads=12, rank=4), "plusv2.bin"),
    "base sdxl": Case("sdxl", Plain("base", 2048, image=48)),
    "plus sdxl": Case("sdxl", Plain("plus", 2048, tokens=16, image=40, **SMALL)),
}


def tensors_of(case: Case) -> dict[str, Tensor]:
    return draw(plain_adapter(case.sizes, SITES[case.family]), seed=6, dtype=torch.float32)


def features_of(case: Case) -> tuple[Features, Tensor]:
    """Random features of one reference, and hidden states of no image."""
    generator = torch.Generator().manual_seed(7)
    drawn = lambda *shape: torch.randn(1, *shape, generator=generator)  # noqa: E731
    kind, image = case.sizes.kind, case.sizes.image
    hidden_states, zeros = drawn(17, image), drawn(17, image)
    face = torch.nn.functional.normalize(drawn(512), dim=-1) if kind.startswith("faceid") else None
    return Features(
        hidden_states=hidden_states if kind in ("plus", "full-face", "faceid-plus") else None,
        image_embeds=drawn(image) if kind == "base" else None,
        face=face,
    ), zeros


class Pair:
    """An adapter in both libraries, with the same features."""

    def __init__(self, name: str):
        self.case = CASES[name]
        self.family = self.case.family
        tensors = tensors_of(self.case)
        self.adapter = LoadedAdapter(self.case.file, recognise(tensors, self.case.file))
        self.features, self.zero_hidden_states = features_of(self.case)
        texts = Texts("use the style", "", "")
        encode = token_encoder(self.adapter, None, texts, lambda: self.zero_hidden_states, structure=0.7)
        self.embeds = InstructEmbeds.of(self.adapter, "", combine_references(encode(self.features)))
        self.pipeline = oracle.with_adapter(self.family, tensors)

    def image_embeds(self, positive: bool) -> list[Tensor]:
        """The inputs of diffusers for the picture, or for none."""
        read, layer = self.features, self.pipeline.unet.encoder_hid_proj.image_projection_layers[0]
        if read.face is not None and read.hidden_states is not None:
            layer.clip_embeds = (read.hidden_states if positive else self.zero_hidden_states)[None]
            layer.shortcut, layer.shortcut_scale = "plusv2" in self.case.file, 0.7
        if read.face is not None:
            return [(read.face if positive else torch.zeros_like(read.face))[None]]
        if read.image_embeds is not None:
            return [(read.image_embeds if positive else torch.zeros_like(read.image_embeds))[None]]
        return [(read.hidden_states if positive else self.zero_hidden_states)[None]]


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    with torch.inference_mode():
        return Pair(request.param)


def test_tokens_are_those_of_diffusers(pair):
    found = pair.embeds.image_tokens
    for positive, tokens in ((True, found.full), (False, found.uncond)):
        (expected,) = pair.pipeline.unet.encoder_hid_proj.image_projection_layers[0:1]
        (embeds,) = pair.image_embeds(positive)
        made = expected(embeds.reshape(-1, *embeds.shape[2:])).reshape(tokens.shape)
        torch.testing.assert_close(tokens, made, rtol=0, atol=TOLERANCE)
    assert torch.equal(found.full, found.everything)
    assert torch.equal(found.full, found.image_only)


@pytest.mark.parametrize("weight", [1.0, 0.6])
@pytest.mark.parametrize("positive", [True, False], ids=["cond", "uncond"])
def test_predictions_are_those_of_diffusers(pair, positive, weight):
    latent, texts, pooled = inputs(pair.family)
    pair.pipeline.set_ip_adapter_scale(weight)
    extra = {"image_embeds": pair.image_embeds(positive), "pooled": pooled}
    text = texts["positive" if positive else "negative"]
    expected = oracle.predict(pair.pipeline, pair.family, latent, TIMESTEP, text, extra)
    model = small_models.applied(oracle.comfy_model(pair.family), pair.embeds, weight=weight)
    found = predict(model, pair, latent, texts, cfg=1.0 if positive else 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_bare_unets_agree_so_that_the_rest_means_something(family):
    latent, texts, pooled = inputs(family)
    expected = oracle.predict(
        oracle.diffusers_pipeline(family), family, latent, TIMESTEP, texts["positive"], {"pooled": pooled}
    )
    found = predict(oracle.comfy_model(family), None, latent, texts, cfg=1.0, family=family)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pair", ["faceid", "faceid-plus"], indirect=True)
def test_the_lora_acts_with_its_strength(pair, strength):
    latent, texts, _ = inputs("sd15")
    pair.pipeline.set_ip_adapter_scale(1.0)
    pair.pipeline.set_adapters(["faceid_0"], adapter_weights=[strength])
    embeds = {"image_embeds": pair.image_embeds(True)}
    expected = oracle.predict(pair.pipeline, "sd15", latent, TIMESTEP, texts["positive"], embeds)
    pair.pipeline.set_adapters(["faceid_0"], adapter_weights=[1.0])
    of_strength = small_plain_adapters.of_strength(pair.embeds, strength)
    model = small_models.applied(oracle.comfy_model("sd15"), of_strength, weight=1.0)
    found = predict(model, pair, latent, texts, cfg=1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_weight_0_is_the_bare_model_bit_for_bit(pair):
    latent, texts, _ = inputs(pair.family)
    bare = oracle.comfy_model(pair.family)
    model = small_models.applied(bare, pair.embeds, weight=0.0)
    assert torch.equal(predict(model, pair, latent, texts, cfg=4.0), predict(bare, pair, latent, texts, cfg=4.0))


def test_applying_leaves_the_source_model_unchanged(pair):
    latent, texts, _ = inputs(pair.family)
    bare = oracle.comfy_model(pair.family)
    before = predict(bare, pair, latent, texts, cfg=4.0)
    acting = predict(small_models.applied(bare, pair.embeds, weight=1.0), pair, latent, texts, cfg=4.0)
    assert not torch.allclose(acting, before, atol=1e-3)
    assert torch.equal(predict(bare, pair, latent, texts, cfg=4.0), before)


def inputs(family: str) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """A latent, two texts, and SDXL's pooled text with the sizes behind it, as its UNet takes them."""
    generator = torch.Generator().manual_seed(9)
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    width = oracle.CONTEXT[family]
    texts = {name: torch.randn(1, 77, width, generator=generator) for name in ("positive", "negative")}
    pooled = torch.randn(1, 64, generator=generator)
    sizes = torch.cat([torch.ones(1, 6, 4), torch.zeros(1, 6, 4)], dim=-1).flatten(1)  # cosines and sines of 0
    return latent, texts, torch.cat([pooled, sizes], dim=-1)


def predict(model, pair, latent: Tensor, texts: dict[str, Tensor], cfg: float, family: str = "") -> Tensor:
    """The noise that one step of ComfyUI's guider predicts."""
    family = family or pair.family
    pooled = {"pooled_output": inputs(family)[2]} if family == "sdxl" else {}
    conds = tuple([[texts[name], dict(pooled)]] for name in ("positive", "negative"))
    levels = model.get_model_object("model_sampling")
    sigma, x = noise_level_and_input(levels, torch.tensor([float(TIMESTEP)]), latent)
    return noise_prediction(model, conds, cfg, x, sigma)
