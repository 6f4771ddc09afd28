"""Beside Advanced-ControlNet: its masks, weights, keyframes for latents and for noise levels, and its reference.

Expected are the oracle's results with the same nodes. With three-way guidance both texts are one there, since each of
the oracle's conditions asks a ControlNet once, with its own text, for all its terms.
"""

import pytest
import torch
from support.other_nodes.other_packs import nodes_of, outputs_of
from support.other_nodes.small_control_net import hints, small_control_net
from support.other_nodes.with_other_node import CHAINS
from support.sampling.host_samplers import ksampler, pair
from support.sampling.scenes import OracleForm, PackForm, Scene, text
from support.sampling.short_runs import close

NAME = "ComfyUI-Advanced-ControlNet"
LATENTS = 2
HALF = torch.cat([torch.ones(1, 16, 8), torch.zeros(1, 16, 16)], dim=-1)


@pytest.fixture(scope="module")
def nodes():
    return nodes_of(NAME)


@pytest.fixture(params=CHAINS)
def scene(request) -> Scene:
    links = CHAINS[request.param]
    return Scene(links=links, negative=text("positive", "sd15") if request.param == "three-way" else None)


def keyframes(nodes, *strengths: float):
    """One for each latent."""
    made = None
    for latent, strength in enumerate(strengths):
        made = outputs_of(nodes["LatentKeyframe"], batch_index=latent, strength=strength, prev_latent_kf=made)[0]
    return made


def weights(nodes, uncond_multiplier: float = 1.0):
    node = nodes["ACN_ScaledSoftControlNetWeights"]
    return outputs_of(node, base_multiplier=0.6, uncond_multiplier=uncond_multiplier)[0]


VARIANTS = {
    "plain": lambda nodes: {},
    "mask": lambda nodes: {"mask_optional": HALF},
    "latent keyframes": lambda nodes: {"latent_kf_override": keyframes(nodes, 0.2, 1.5)},
    "soft weights": lambda nodes: {"weights_override": weights(nodes)},
    "timestep keyframe": lambda nodes: {
        "timestep_kf": outputs_of(nodes["TimestepKeyframe"], start_percent=0.4, strength=0.3)[0]
    },
}


def with_control(nodes, form, control, **own) -> tuple[list, list]:
    """own: further inputs of its Apply node."""
    settings = {"strength": 0.8, "start_percent": 0.0, "end_percent": 1.0, **own}
    positive, negative = pair(form)
    apply = nodes["ACN_AdvancedControlNetApply_v2"]
    inputs = {"positive": positive, "negative": negative, "control_net": control, "image": hints(LATENTS)}
    made = outputs_of(apply, **inputs, **settings)
    return made[0], made[1]


def agree(nodes, scene: Scene, control, **own) -> None:
    found, expected = (
        ksampler(form, batch=LATENTS, conds=with_control(nodes, form, control, **own))
        for form in (PackForm(scene), OracleForm(scene))
    )
    close(found, expected)
    assert not torch.allclose(found, ksampler(PackForm(scene), batch=LATENTS), atol=0.05)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_control_net_acts_as_without_this_pack(nodes, scene, name):
    agree(nodes, scene, small_control_net(), **VARIANTS[name](nodes))


def test_the_negative_has_its_own_strength(nodes, scene):
    """In three-way guidance each of the predictions that are added up has its own side's."""
    pack, oracle = PackForm(scene), OracleForm(scene)
    oracle.model.model.control_on_negative = 0.2
    multipliers = (0.2, 1.0)
    found, expected = (
        ksampler(form, batch=LATENTS, conds=with_control(nodes, form, small_control_net(), weights_override=own))
        for form, own in zip((pack, oracle), (weights(nodes, m) for m in multipliers), strict=True)
    )
    close(found, expected)


def test_image_tokens_never_reach_it(nodes, scene):
    control, seen = small_control_net(), []
    transformers = [m for m in control.control_model.modules() if hasattr(m, "attn2")]
    for transformer in transformers:  # a replaced attention would not come by here
        transformer.attn2.register_forward_hook(lambda m, args, kw, out: seen.append(kw["context"]), with_kwargs=True)
    form = PackForm(scene)
    ksampler(form, batch=LATENTS, conds=with_control(nodes, form, control))
    texts = [scene.positive.context[0], scene.negative.context[0]]
    assert len(seen) >= len(transformers)
    assert all(any(torch.equal(row, own) for own in texts) for context in seen for row in context)
