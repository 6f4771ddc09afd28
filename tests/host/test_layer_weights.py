"""Weights for a model's layers, on real samplers.

Expected is another implementation of the published rules: an oracle (tests/support/oracle.py) whose attention asks
ComfyUI for the number and the part of its layer while the model runs. The small UNets have all groups of layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import small
import torch
from comfy.ldm.modules.attention import optimized_attention
from golden_cases import golden_case
from host_samplers import check, ksampler
from ipadapter_instruct.models.layers import LayerWeights
from oracle import SITES, OracleAdapter, OracleModel, oracle_model, plain_attention
from scenes import Link, Scene

COUNTS = {"sd15": 16, "sdxl": 11}
MODES = ["simple", "three-way"]
V_ONLY = "V only"

# A factor for each layer from 0 on. Source: cubiq/ComfyUI_IPAdapter_plus@b103c674, IPAdapterPlus.py.
PUBLISHED = {
    "sd15": {
        "style transfer": (1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "composition": (0, 0, 0, 0, 0.25, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "strong style transfer": (1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        "style and composition": (1, 1, 1, 1, 0.25, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "strong style and composition": (1,) * 16,
        "style transfer precise": (1, 1, 1, 1, 0.25, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "composition precise": (1, 1, 1, 1, 0.25, 1, 0.1, 0.1, 0.1, 1, 1, 1, 1, 1, 1, 1),
    },
    "sdxl": {
        "style transfer": (0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
        "composition": (0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
        "strong style transfer": (1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1),
        "style and composition": (0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0),
        "strong style and composition": (1,) * 11,
        "style transfer precise": (0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0),
        "composition precise": (0.1, 0.1, 0.1, 1, 0.1, 0.1, 1, 0.1, 0.1, 0.1, 0.1),
    },
}
# Of a layer's number t among n, and its part of the model. Source: the same pack, CrossAttentionPatch.py.
BY_PLACE = {
    "linear": lambda t, n, part: 1,
    "ease in": lambda t, n, part: 0.05 + 0.95 * (1 - t / n),
    "ease out": lambda t, n, part: 0.05 + 0.95 * (t / n),
    "ease in-out": lambda t, n, part: 0.05 + 0.95 * (1 - abs(t - n / 2) / (n / 2)),
    "reverse in-out": lambda t, n, part: 0.05 + 0.95 * (abs(t - n / 2) / (n / 2)),
    "weak input": lambda t, n, part: 0.2 if part == "input" else 1,
    "weak output": lambda t, n, part: 0.2 if part == "output" else 1,
    "weak middle": lambda t, n, part: 0.2 if part == "middle" else 1,
    "strong middle": lambda t, n, part: 1 if part == "middle" else 0.2,
}
PRECISE = ("style transfer precise", "composition precise")
TYPES = [*BY_PLACE, *PUBLISHED["sd15"]]


def published_factor(family: str, weight_type: str, number: int, part: str) -> float:
    if weight_type in BY_PLACE:
        return BY_PLACE[weight_type](number, COUNTS[family], part)
    return PUBLISHED[family][weight_type][number]


def on_negative(family: str, weight_type: str, number: int) -> bool:
    """Whether the layer's positive gets nothing, and its negative what the positive would. Source: as above."""
    composition = number in {"sd15": (4, 5), "sdxl": (3,)}[family]
    return weight_type in PRECISE and composition == (weight_type == "style transfer precise")


class LayeredOracle(OracleModel):
    """Two adapters are given: the branch's tokens, and the full branch's in their place where a rule says so."""

    factor: Callable[[int, str], float]
    moved: Callable[[int], bool]
    scaling: str
    frames: tuple[float, ...]

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
                strength * self.factor(number, extra_options["block"][0]) * self.frames[latent % len(self.frames)]
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


def scaled_attention(q, keys, values, weight, heads: int, scaling: str) -> torch.Tensor:
    """Source: cubiq/ComfyUI_IPAdapter_plus@f204d6fc, CrossAttentionPatch.py."""
    if scaling == V_ONLY:
        return plain_attention(q, keys, values, heads) * weight
    if "C penalty" in scaling:
        weight = weight * keys.shape[2] / 1280
    if "mean(V)" not in scaling:
        return plain_attention(q, keys * weight, values * weight, heads)
    mean = values.mean(dim=1, keepdim=True)
    return plain_attention(q, keys * weight, (values - mean) + mean * weight, heads)


@dataclass
class LayeredScene(Scene):
    """A scene of one adapter with layer weights."""

    layers: LayerWeights = LayerWeights()
    frames: tuple[float, ...] = (1.0,)

    def model(self, prepare):
        settings = {k: v for k, v in vars(self.links[0]).items() if k != "picture"}
        embeds = small.InstructEmbeds(self.adapter, "", self.tokens[0])
        model = prepare(small.small_model(self.family))
        return small.applied(model, embeds, layers=self.layers, frame_weights=self.frames, **settings)

    def oracle(self, prepare):
        patcher, weight_type = small.small_model(self.family, LayeredOracle), self.layers.weight_type
        model = patcher.model
        adapter = OracleAdapter(golden_case(self.family).adapter_weights, self.links[0].weight)
        model.adapters = (adapter, adapter)
        model.factor = lambda number, part: published_factor(self.family, weight_type, number, part)
        model.moved = lambda number: on_negative(self.family, weight_type, number)
        model.scaling, model.frames = self.layers.scaling, self.frames
        return prepare(patcher)

    def _term(self, *args):
        term = super()._term(*args)
        return replace(term, tokens=(*term.tokens, self.tokens[0].full))


@pytest.mark.parametrize("weight_type", TYPES)
@pytest.mark.parametrize("family", COUNTS)
def test_every_weight_type_acts_as_published(family, weight_type):
    check(ksampler, LayeredScene(family, layers=LayerWeights(weight_type)))


@pytest.mark.parametrize("weight_type", PRECISE)
@pytest.mark.parametrize("family", COUNTS)
def test_the_precise_types_push_the_negative_in_simple_guidance(family, weight_type):
    simple = (Link(guidance="simple"),)
    check(ksampler, LayeredScene(family, simple, layers=LayerWeights(weight_type)), batch=2)


@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("scaling", ["K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty"])
@pytest.mark.parametrize("family", COUNTS)
def test_scalings_weigh_keys_and_values_by_the_published_formulas(family, scaling, guidance):
    check(ksampler, LayeredScene(family, (Link(guidance=guidance),), layers=LayerWeights(scaling=scaling)))


@pytest.mark.parametrize("scaling", ["V only", "K+V", "K+mean(V) w/ C penalty"])
@pytest.mark.parametrize("weight_type", ["ease out", "style transfer precise"])
def test_weights_of_layers_and_of_frames_multiply(weight_type, scaling):
    scene = LayeredScene(layers=LayerWeights(weight_type, scaling=scaling), frames=(1.0, -0.5, 0.3))
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
