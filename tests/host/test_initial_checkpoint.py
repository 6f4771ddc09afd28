"""The checkpoint that training starts from: drawn, made of a Plus adapter, or an instruct adapter as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfyhost.adapters import plain_adapter
from comfyhost.weights import draw
from ipadapter_instruct.models.adapter.checkpoint import build, recognise
from ipadapter_instruct.models.adapter.kinds import INSTRUCT
from ipadapter_instruct.models.denoisers.denoiser import denoiser_of
from ipadapter_instruct.models.denoisers.model_view import Site
from ipadapter_instruct.models.families import SD15
from ipadapter_instruct.models.training.batch import Conditioning
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_file, from_scratch
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter, named_as_published
from support import small_models, small_plain_adapters, small_training
from support.golden_cases import golden_case
from support.sampling.short_runs import close, same

FAMILIES = ("sd15", "sdxl", "sd3")
each_family = pytest.mark.parametrize("family", FAMILIES)


def drawn(family: str, seed: int = 0, **shape):
    base = small_training.frozen_base(family)
    return base, from_scratch(base, Shape(**{"width": 64, "blocks": 2, **shape}), seed)


@each_family
def test_an_adapter_from_scratch_is_one_of_its_family_for_every_site(family):
    base, tensors = drawn(family, tokens=4)
    named = {name: tensor for name, tensor in tensors.items() if name.startswith("image_proj.")}
    assert any("proj_out_big" in name for name in named) == (family == "sd3")
    adapter = TrainableAdapter(small_checkpoint_of(family, tensors))
    assert adapter.projections.widths == tuple(site.width for site in base.sites)
    assert adapter.image_projection.sizes.tokens == 4
    assert adapter.image_projection.sizes.out_width == base.sites[0].context_width


def small_checkpoint_of(family: str, tensors: dict):
    """A checkpoint of small weights; `recognise` knows the published widths alone."""
    return small_models.small_checkpoint(family, weights=tensors)


@each_family
def test_the_same_seed_draws_the_same_adapter(family):
    first, again, other = (drawn(family, seed)[1] for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image_proj.latents"], other["image_proj.latents"])


def test_a_unets_new_keys_and_values_are_the_models_own_for_text():
    base, tensors = drawn("sd15")
    denoiser = base.patcher.get_model_object("diffusion_model")
    for place, site in enumerate(base.sites):
        attention = denoiser.get_submodule(site.path.removeprefix("diffusion_model.")).attn2
        same(tensors[f"ip_adapter.{2 * place + 1}.to_k_ip.weight"], attention.to_k.weight)
        same(tensors[f"ip_adapter.{2 * place + 1}.to_v_ip.weight"], attention.to_v.weight)


def test_a_new_mmdit_adapter_adds_nothing_at_first():
    base, tensors = drawn("sd3")
    adapter = TrainableAdapter(small_checkpoint_of("sd3", tensors))
    x, sigma = torch.randn(1, small_training.GoldenDataset("sd3").channels, 8, 8), torch.tensor([0.5])
    golden = small_training.conditioning("sd3")
    texts = torch.randn(2, 1, 77, 768)
    given = Conditioning(torch.randn(1, 257, 1280), *texts, golden.context, golden.pooled_output)
    with base.loaded(), torch.no_grad():
        trained = base.denoised(adapter, given, x.clone(), sigma)
        conds = {"c_crossattn": given.context, "y": given.pooled_output}
        bare = base.model.apply_model(x.clone(), sigma, **conds)
    close(trained, bare, 1e-6)


def plain(kind: str):
    """A small adapter for text as wide as SD1.5's, and sites that it fits."""
    sizes = replace(small_plain_adapters.SIZES[kind], token_width=768)
    widths = small_plain_adapters.SITES["sd15"]
    tensors = draw(plain_adapter(sizes, widths), seed=0, dtype=torch.float32)
    return recognise(tensors), [Site(("input", place, 0), width, 768) for place, width in enumerate(widths)]


def test_a_plus_adapter_starts_with_its_own_tokens():
    plus, sites = plain("plus")
    made = from_file(plus, SD15, sites, seed=0)
    assert made.kind is INSTRUCT
    hidden_states = torch.randn(2, 17, plus.image_projection["proj_in.weight"].shape[1])
    expected = build(plus).image_projection(hidden_states)
    found = build(made).image_projection(hidden_states, *torch.randn(2, 2, 77, 768))
    close(found, expected, 2e-2)
    assert not torch.equal(found, expected)
    for name, weight in plus.attention.items():
        same(made.attention[name], weight)


def test_an_instruct_adapter_starts_as_it_is():
    checkpoint = small_models.small_checkpoint("sd15")
    base = small_training.frozen_base("sd15")
    assert from_file(checkpoint, base.family, base.sites, 0) is checkpoint


def test_what_cannot_be_started_from_is_refused():
    base = small_training.frozen_base("sd15")
    face, sites = plain("faceid")
    with pytest.raises(ValueError, match="an IP-Adapter Plus was expected to start from; this is IP-Adapter FaceID"):
        from_file(face, SD15, sites, 0)
    other = small_models.small_checkpoint("sdxl")
    with pytest.raises(ValueError, match="This adapter is for SDXL"):
        from_file(other, base.family, base.sites, 0)


@each_family
def test_what_was_trained_is_written_under_the_published_names(family):
    adapter = small_training.trainable_adapter(family)
    expected = golden_case(family).adapter_weights
    found = named_as_published(adapter.family, dict(adapter.named_parameters()))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        same(found[name], weight)


@each_family
def test_every_site_of_the_model_is_trained(family):
    base, adapter = small_training.frozen_base(family), small_training.trainable_adapter(family)
    assert len(adapter.projections.widths) == len(base.sites)
    assert denoiser_of(base.family).sites(base.view) == base.sites
