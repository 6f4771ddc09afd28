"""Beside ComfyUI's own nodes that change a model's blocks and attention, or leave out steps.

Expected are the oracle's results with the same node, or laws. `order` is where the other node stands to Apply.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace

import comfy.sample
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import (
    nodes_attention_multiply,
    nodes_easycache,
    nodes_freelunch,
    nodes_hypertile,
    nodes_model_downscale,
    nodes_pag,
    nodes_sag,
    nodes_tomesd,
)
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from support import small_models
from support.host_node import host_node
from support.other_nodes.with_other_node import MODES, agree, applied_with, unchanged
from support.sampling.short_runs import close, noise, noise_prediction, same, sample


@pytest.fixture(scope="module")
def family() -> str:
    return "sd15"


# ComfyUI's own nodes


def free_u(model):
    return nodes_freelunch.FreeU().patch(model, 1.1, 1.2, 0.9, 0.2)[0]


def free_u_v2(model):
    return nodes_freelunch.FreeU_V2().patch(model, 1.3, 1.4, 0.9, 0.2)[0]


def hyper_tile(model):
    """The small latent is cut into 2 x 3 tiles, always the same."""
    return host_node(nodes_hypertile.HyperTile, model, 32, 1, 1, False)[0]


def deep_shrink(after_skip: bool, factor: float = 2.0):
    def patch(model):
        node = nodes_model_downscale.PatchModelAddDownscale
        return host_node(node, model, 3, factor, 0.0, 1.0, after_skip, "bicubic", "bicubic")[0]

    return patch


def token_merging(model):
    """It draws at random in each evaluation of the model: the same here in all of them."""

    def seeded(executor, *args, **kwargs):
        torch.manual_seed(1)
        return executor(*args, **kwargs)

    model = host_node(nodes_tomesd.TomePatchModel, model, 0.5)[0]
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "seeded", seeded)
    return model


def cross_attention_multiply(model):
    return host_node(nodes_attention_multiply.UNetCrossAttentionMultiply, model, 1.3, 0.7, 1.1, 0.9)[0]


def hypernetwork(model):
    """A patch like ComfyUI's hypernetworks: they change keys and values of the text before their projections."""

    def change(q, k, v, extra_options):
        return q, k * 1.2, v + 0.3

    model = model.clone()
    model.set_model_attn2_patch(change)
    return model


def changed_output(model):
    model = model.clone()
    model.set_model_attn2_output_patch(lambda n, extra_options: 0.7 * n)
    return model


def lazy_cache(model):
    return host_node(nodes_easycache.LazyCacheNode, model, 3.0, 0.0, 1.0, False)[0]


def easy_cache(model):
    return host_node(nodes_easycache.EasyCacheNode, model, 3.0, 0.0, 1.0, False)[0]


CORE = {
    "FreeU": free_u,
    "FreeU_V2": free_u_v2,
    "HyperTile": hyper_tile,
    "DeepShrink after skip": deep_shrink(True),
    "DeepShrink before skip": deep_shrink(False, 1.5),
    "token merging": token_merging,
    "cross-attention multiply": cross_attention_multiply,
    "hypernetwork": hypernetwork,
    "changed attn2 output": changed_output,
}


@pytest.fixture(params=CORE)
def core(request) -> Callable:
    return CORE[request.param]


def test_the_hosts_nodes_act_as_without_the_adapter(scene, core, order):
    agree(scene, core, order)


def test_weight_0_leaves_the_hosts_nodes_as_they_are(bare, embeds, core, order):
    model = applied_with(core, order, bare, embeds, weight=0.0, guidance="three-way")
    same(sample(model, last_step=1), sample(core(bare), last_step=1))


def test_self_attention_guidance_stands_before_or_after(embeds, bare, order):
    def guided(model):
        return host_node(nodes_sag.SelfAttentionGuidance, model, 0.5, 2.0)[0]

    start = noise(bare, 1, 16, 24)  # the node blurs what its attention has at least so many places for
    one, other = (applied_with(guided, at, bare, embeds, guidance="three-way") for at in ("before", "after"))
    same(sample(one, start), sample(other, start))
    same(sample(applied_with(guided, order, bare, embeds, weight=0.0), start), sample(guided(bare), start))


def test_perturbed_attention_guidance_is_as_without_the_adapter(scene, order):
    agree(scene, lambda model: host_node(nodes_pag.PerturbedAttentionGuidance, model, 2.0)[0], order)


# Nodes that look for the first negative and the first positive of a batch's rows


def first_against_first(model):
    """Source: the shape of ComfyUI 0.33.0's NAGuidance, comfy_extras/nodes_nag.py."""

    def guide(n, extra_options):
        sides = extra_options["cond_or_uncond"]
        latents = len(n) // len(sides)
        chunks = list(n.split(latents))
        positive, negative = sides.index(0), sides.index(1)
        chunks[positive] = 1.5 * chunks[positive] - 0.5 * chunks[negative]
        return torch.cat(chunks)

    model = model.clone()
    model.set_model_attn1_output_patch(guide)
    return model


def nag(model):
    try:
        node = importlib.import_module("comfy_extras.nodes_nag").NAGuidance
    except ModuleNotFoundError:
        pytest.skip("this ComfyUI has no NAGuidance")
    return host_node(node, model, 5.0, 0.5, 1.5)[0]


@pytest.mark.parametrize("guided", [first_against_first, nag])
@pytest.mark.parametrize("image_scale, negative", [(0.75, "uncond"), (1.0, "image_only")])
def test_a_guide_of_the_positive_by_the_negative_guides_the_full_branch_and_no_other(
    bare, embeds, order, guided, image_scale, negative
):
    """It adds as much as to simple guidance of the same two, where full counts cfg times, here instruct_scale times.

    At an image scale of 1 there is no uncond: the negative is image_only, which has the negative's text.
    """
    conds = tuple(small_models.golden_conditioning("sd15", name) for name in ("positive", "negative"))
    x, sigma, cfg, instruct_scale = noise(bare), torch.tensor([3.0]), 4.0, 2.0

    def added(own, **settings):
        models = (applied_with(other, order, bare, own, **settings) for other in (guided, unchanged))
        with_it, without = (noise_prediction(model, conds, cfg, x, sigma) for model in models)
        return with_it - without

    tokens = embeds.image_tokens
    pair = InstructEmbeds(embeds.adapter, "", replace(tokens, uncond=getattr(tokens, negative)))
    simple = added(pair, guidance="simple") * instruct_scale / cfg
    assert simple.abs().max() > 0.05
    three_way = added(embeds, guidance="three-way", instruct_scale=instruct_scale, image_scale=image_scale)
    torch.testing.assert_close(three_way, simple, rtol=0, atol=1e-4)


REGIONS = ["DeepShrink after skip", "DeepShrink before skip", "HyperTile", "token merging"]


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("height, width", [(16, 24), (15, 23)], ids=["even", "odd"])
def test_masks_fit_where_a_node_changes_sizes(bare, embeds, name, height, width):
    """The masks are at another resolution than the picture; where they are not, masks that tile it are none."""
    start = noise(bare, 1, height, width)
    left = torch.zeros(1, 37, 53)
    left[..., :20] = 1
    other = CORE[name](bare)
    settings = {"guidance": "simple"}
    tiled = small_models.applied(small_models.applied(other, embeds, left, **settings), embeds, 1 - left, **settings)
    whole = sample(small_models.applied(other, embeds, **settings), start)
    close(sample(tiled, start), whole)
    assert not torch.allclose(sample(small_models.applied(other, embeds, left, **settings), start), whole, atol=0.05)


# Caches of the host. What they keep from step to step they find again by the conditions' ids.


@pytest.mark.parametrize("guidance", MODES)
def test_lazy_cache_skips_steps(bare, embeds, guidance):
    model = small_models.applied(bare, embeds, guidance=guidance)
    assert evaluations(lazy_cache(model)) < evaluations(model) == evaluations(bare)


@pytest.mark.parametrize("guidance", MODES)
def test_easy_cache_skips_steps(bare, embeds, order, guidance):
    model = applied_with(easy_cache, order, bare, embeds, guidance=guidance)
    assert evaluations(model) < evaluations(bare)


def test_easy_cache_goes_on_where_the_passes_change(bare, embeds):
    model = small_models.applied(bare, embeds, guidance="simple", weight=0.4)
    model = small_models.applied(model, embeds, guidance="three-way", weight=0.4, start_percent=0.3, end_percent=0.7)
    assert evaluations(easy_cache(model)) < evaluations(model)


def evaluations(model) -> int:
    """Count the UNet's calls in eight steps."""
    count = []
    handle = model.model.diffusion_model.time_embed.register_forward_hook(lambda *_: count.append(1))
    try:
        positive, negative = (small_models.golden_conditioning("sd15", name) for name in ("positive", "negative"))
        start = noise(model)
        comfy.sample.sample(
            model, start, 8, 4.0, "euler", "normal", positive, negative, torch.zeros_like(start), seed=1
        )
    finally:
        handle.remove()
    return len(count)
