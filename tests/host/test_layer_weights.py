"""Weights for a model's layers, on real samplers.

Expected is another implementation of the published rules: an oracle (support/sampling/oracle_model.py) whose attention
asks ComfyUI for the number and the part of its layer while the model runs. The small UNets have all groups of layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from ipadapter_instruct.models.guidance.layer_weights import LayerWeights
from support import small_models
from support.golden_cases import golden_case
from support.published.layer_weights import (
    BY_PLACE,
    PRECISE,
    PUBLISHED,
    on_negative,
    published_factor,
    scaled_attention,
)
from support.sampling.host_samplers import check, ksampler
from support.sampling.oracle_model import SITES, OracleAdapter, OracleModel, oracle_model
from support.sampling.scenes import Link, Scene

FAMILIES = ["sd15", "sdxl"]
MODES = ["simple", "three-way"]
TYPES = [*BY_PLACE, *PUBLISHED["sd15"]]


class LayeredOracle(OracleModel):
    """Two adapters are given: the branch's tokens, and the full branch's in their place where a rule says so."""

    factor: Callable[[int, str], float]
    moved: Callable[[int], bool]
    scaling: str
    batch_factors: tuple[float, ...]

    def _with_tokens(self, options: dict, tokens: list) -> dict:
        patches = {site: self._attention(index, *tokens) for index, site in enumerate(SITES[self.family])}
        return {**options, "patches_replace": {"attn2": patches}}

    def _attention(self, index: int, own: torch.Tensor, full: torch.Tensor):
        weights, strength = self.adapters[0].weights, self.adapters[0].strength
        to_k, to_v = (weights[f"ip_adapter.{2 * index + 1}.to_{name}_ip.weight"].T for name in "kv")

        def patch(q, k, v, extra_options):
            number, sides = extra_options["transformer_index"], extra_options["cond_or_uncond"]
            moved, heads = self.moved(number), extra_options["n_heads"]
            latents = len(q) // len(sides)
            rows = [
                strength
                * self.factor(number, extra_options["block"][0])
                * self.batch_factors[latent % len(self.batch_factors)]
                if not moved or side == 1
                else 0.0
                for side in sides
                for latent in range(latents)
            ]
            tokens = full if moved else own
            added = scaled_attention(
                q, tokens @ to_k, tokens @ to_v, torch.tensor(rows)[:, None, None], heads, self.scaling
            )
            return optimized_attention(q, k, v, heads) + added

        return patch


@dataclass
class LayeredScene(Scene):
    """A scene of one adapter with layer weights."""

    layers: LayerWeights = LayerWeights()
    batch_factors: tuple[float, ...] = (1.0,)

    def model(self, prepare):
        settings = {k: v for k, v in vars(self.links[0]).items() if k != "picture"}
        embeds = small_models.InstructEmbeds(self.adapter, "", self.tokens[0])
        model = prepare(small_models.small_model(self.family))
        return small_models.applied(model, embeds, layers=self.layers, batch_factors=self.batch_factors, **settings)

    def oracle(self, prepare):
        patcher, weight_type = small_models.small_model(self.family, LayeredOracle), self.layers.weight_type
        model = patcher.model
        adapter = OracleAdapter(golden_case(self.family).adapter_weights, self.links[0].weight)
        model.adapters = (adapter, adapter)
        model.factor = lambda number, part: published_factor(self.family, weight_type, number, part)
        model.moved = lambda number: on_negative(self.family, weight_type, number)
        model.scaling, model.batch_factors = self.layers.scaling, self.batch_factors
        return prepare(patcher)

    def _term(self, *args):
        term = super()._term(*args)
        return replace(term, tokens=(*term.tokens, self.tokens[0].full))


@pytest.mark.spread("family", "weight_type")
@pytest.mark.parametrize("weight_type", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_type_acts_as_published(family, weight_type):
    check(ksampler, LayeredScene(family, layers=LayerWeights(weight_type)))


@pytest.mark.parametrize("weight_type", PRECISE)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_precise_types_push_the_negative_in_simple_guidance(family, weight_type):
    simple = (Link(guidance="simple"),)
    check(ksampler, LayeredScene(family, simple, layers=LayerWeights(weight_type)), batch=2)


@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("scaling", ["K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scalings_weigh_keys_and_values_by_the_published_formulas(family, scaling, guidance):
    check(ksampler, LayeredScene(family, (Link(guidance=guidance),), layers=LayerWeights(scaling=scaling)))


@pytest.mark.parametrize("scaling", ["V only", "K+V", "K+mean(V) w/ C penalty"])
@pytest.mark.parametrize("weight_type", ["ease out", "style transfer precise"])
def test_weights_of_layers_and_of_frames_multiply(weight_type, scaling):
    scene = LayeredScene(layers=LayerWeights(weight_type, scaling=scaling), batch_factors=(1.0, -0.5, 0.3))
    check(ksampler, scene, batch=3)


@pytest.mark.parametrize(
    "weight_type, factors",
    [
        ("ease in", (1.0, 0.525)),
        ("ease in-out", (0.05, 1.0)),
        ("weak input", (0.2, 1.0)),
        ("strong middle", (0.2, 1.0)),
    ],
)
def test_in_sd3_a_factor_weighs_what_its_block_adds(weight_type, factors):
    """Its small model has two blocks with an adapter: the first third of the depth, and the second."""
    scene = LayeredScene("sd3", layers=LayerWeights(weight_type))
    weights = dict(golden_case("sd3").adapter_weights)
    for block, factor in zip((0, 2), factors, strict=True):
        for name in ("proj_ip", "proj_encoder_hidden_states_ip"):
            weights[f"ip_adapter.{block}.{name}.weight"] = factor * weights[f"ip_adapter.{block}.{name}.weight"]
    scene.oracle = lambda prepare: oracle_model("sd3", (OracleAdapter(weights, scene.links[0].weight),))
    scene._term = super(LayeredScene, scene)._term
    check(ksampler, scene)
