"""Laws of adapters that take no instruction, through the nodes and on real samplers. Bit for bit unless a tolerance
is given. What they compute is compared with diffusers in test_against_diffusers.py."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import AVERAGE, CONCAT, PER_INDEX
from ipadapter_instruct.models.encoding.embeds import switch_embeds
from ipadapter_instruct.models.guidance.weight_schedule import HOLD, NOISE, Schedule, parse_schedule
from ipadapter_instruct.models.patching.chain import CHAIN
from support import small_models
from support import small_plain_adapters as plain
from support.golden_cases import golden_case
from support.sampling.counting import passes
from support.sampling.host_samplers import check, ksampler
from support.sampling.oracle_model import OracleAdapter, oracle_model
from support.sampling.scenes import Link, Scene
from support.sampling.short_runs import close, noise, same, sample

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

KINDS = list(plain.SIZES)
some_kinds = pytest.mark.parametrize("kind", ["base", "faceid-plus-v2"])


@pytest.fixture(scope="module")
def bare():
    return small_models.small_model()


@pytest.fixture(scope="module")
def bare_picture(bare):
    with torch.inference_mode():
        return sample(bare)


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def embeds(kind):
    with torch.inference_mode():
        return plain.embeds(plain.adapter(kind))


def of_kind(kind: str, number: int = 1, **changes):
    return plain.embeds(plain.adapter(kind), number, **changes)


# Every kind


def test_weight_0_is_the_bare_model_with_its_lora_too(bare, bare_picture, embeds):
    same(sample(plain.applied(bare, embeds, weight=0.0)), bare_picture)


def test_three_way_and_auto_are_simple_and_it_is_said(bare, bare_picture, embeds):
    simple = plain.apply(bare, embeds, guidance="simple")
    expected = sample(simple.args[0])
    assert not torch.allclose(expected, bare_picture, atol=0.02)
    assert not any("takes no instruction" in line for line in simple.ui["text"])
    for guidance in ("auto", "three-way"):
        asked = plain.apply(bare, embeds, guidance=guidance)
        if guidance == "three-way":
            same(sample(asked.args[0]), expected)
        assert "guidance: simple, weight: 0.8" in asked.ui["text"]
        said = f"{guidance}: simple, since {embeds.adapter.kind} takes no instruction to be guided by"
        assert said in asked.ui["text"]
        assert "passes a step: 2, 1 at cfg 1" in asked.ui["text"]


def test_applying_leaves_the_source_model_unchanged_to_its_last_weight(bare, bare_picture, embeds):
    options = copy.deepcopy(bare.model_options)
    patched = plain.applied(bare, embeds)
    assert not torch.equal(sample(patched), bare_picture)
    del patched
    assert bare.model_options == options
    assert not bare.patches
    same(sample(bare), bare_picture)
    for name, weight in bare.model.diffusion_model.state_dict().items():
        assert torch.equal(weight, golden_case("sd15").base_weights[name]), name


# Some kinds, which stand for the others


@some_kinds
def test_a_step_has_two_passes(bare, kind):
    assert passes(plain.applied(bare, of_kind(kind), guidance="three-way")) == [2] * 3


@some_kinds
def test_a_second_adapter_leaves_the_first_output_unchanged(bare, kind):
    embeds = of_kind(kind)
    first = plain.applied(bare, embeds)
    before = sample(first)
    second = plain.applied(first, embeds, weight=0.3)
    assert not torch.equal(sample(second), before)
    same(sample(first), before)


@some_kinds
def test_clones_share_the_adapter_instead_of_copying_it(bare, kind):
    patched = plain.applied(bare, of_kind(kind))
    clone = patched.clone()
    assert clone.model_options["transformer_options"][CHAIN] is patched.model_options["transformer_options"][CHAIN]


@some_kinds
def test_a_batch_of_two_is_two_batches_of_one(bare, kind):
    model, both = plain.applied(bare, of_kind(kind)), noise(bare, 2, 8, 12)
    close(sample(model, both), torch.cat([sample(model, both[:1]), sample(model, both[1:])]))


@some_kinds
def test_a_full_mask_is_no_mask_and_an_empty_one_the_bare_model(bare, bare_picture, kind):
    embeds = of_kind(kind)
    full = plain.applied(bare, embeds, attn_mask=torch.ones(1, 50, 70))
    same(sample(full), sample(plain.applied(bare, embeds)))
    empty = plain.applied(bare, plain.of_strength(embeds, 0.0), attn_mask=torch.zeros(1, 50, 70))
    same(sample(empty), bare_picture)


@some_kinds
def test_outside_the_window_the_step_is_the_bare_models(bare, kind):
    embeds = plain.of_strength(of_kind(kind), 0.0)
    late = plain.applied(bare, embeds, start_percent=0.999)
    same(sample(late, last_step=2), sample(bare, last_step=2))
    early = plain.applied(bare, embeds, end_percent=0.001)
    same(sample(early, start_step=1), sample(bare, start_step=1))


@pytest.mark.parametrize("kind", plain.WITH_LORA)
def test_the_lora_acts_outside_the_window_too_and_it_is_said(bare, kind):
    late = plain.apply(bare, of_kind(kind), start_percent=0.999)
    assert f"LoRA of small-{kind}.safetensors: strength 1, at every step" in late.ui["text"]
    assert not torch.allclose(sample(late.args[0], last_step=2), sample(bare, last_step=2), atol=1e-3)


def test_an_apply_of_weight_0_adds_no_lora_and_turns_of_one_adapter_add_it_once(bare):
    embeds = plain.of_strength(of_kind("faceid"), 0.5)
    once = sample(plain.applied(bare, embeds))
    same(sample(plain.applied(plain.applied(bare, embeds), embeds, weight=0.0)), once)
    close(sample(plain.applied(bare, switch_embeds(embeds, embeds, 0.5))), once)


def test_two_applies_of_one_adapter_add_its_lora_once_and_the_second_says_so(bare):
    embeds = plain.of_strength(of_kind("faceid"), 0.5)
    once = sample(plain.applied(bare, embeds, weight=0.8))
    first = plain.apply(bare, embeds, weight=0.5)
    second = plain.apply(first.args[0], embeds, weight=0.3)
    assert any("added by an Apply before" in line for line in second.ui["text"])
    close(sample(second.args[0]), once)
    without = plain.applied(bare, plain.of_strength(embeds, 0.0), weight=0.5)
    close(sample(plain.applied(without, embeds, weight=0.3)), once)


@some_kinds
def test_a_schedule_of_ones_is_none_and_of_zeros_the_bare_model(bare, bare_picture, kind):
    def scheduled(factors: str):
        return sample(plain.applied(bare, embeds, schedule=parse_schedule(factors, HOLD, NOISE)))

    embeds = plain.of_strength(of_kind(kind), 0.0)
    same(scheduled("1"), sample(plain.applied(bare, embeds)))
    same(scheduled("0"), bare_picture)


# Several references


@some_kinds
def test_each_latent_follows_its_reference_as_in_a_run_of_its_own(bare, kind):
    both = noise(bare, 2, 8, 12)
    found = sample(plain.applied(bare, of_kind(kind, 2, combine=PER_INDEX)), both)
    apart = [sample(plain.applied(bare, alone(kind, n)), both[n : n + 1]) for n in range(2)]
    close(found, torch.cat(apart))


@pytest.mark.parametrize("kind", KINDS)
def test_references_are_averaged_or_stand_side_by_side(kind):
    each = [alone(kind, n).image_tokens.full for n in range(2)]
    averaged, joined = (of_kind(kind, 2, combine=mode).image_tokens for mode in (AVERAGE, CONCAT))
    close(averaged.full, sum(each) / 2, tolerance=1e-5)
    close(joined.full, torch.cat(each, dim=1), tolerance=1e-5)
    assert joined.uncond.shape == joined.full.shape


def alone(kind: str, number: int):
    """The embeds that Encode makes of one of two references."""
    face = plain.Faces(plain.faces(2).embeddings[number : number + 1]) if kind in plain.OF_FACES else None
    return of_kind(kind, image=plain.images(2)[number : number + 1], face=face)


@some_kinds
def test_a_weight_for_each_latent_is_applys_in_a_run_of_its_own(bare, kind):
    embeds, both = of_kind(kind), noise(bare, 2, 8, 12)
    found = sample(plain.applied(bare, embeds, weight=0.8, schedule=Schedule(batch_factors=(1.0, 0.5))), both)
    apart = [sample(plain.applied(bare, embeds, weight=w), both[n : n + 1]) for n, w in enumerate((0.8, 0.4))]
    close(found, torch.cat(apart))


# In a chain with IPAdapter-Instruct in three-way guidance


@dataclass(frozen=True)
class PlainLink(Link):
    """An Apply of a plain adapter: whatever guidance it asks for, its rows are full, full, uncond, uncond."""

    guidance: str = "simple"
    kind: str = "plus"


class MixedScene(Scene):
    """A scene in which some links are of plain adapters, which ask for three-way guidance in the pack's form."""

    def __post_init__(self):
        super().__post_init__()
        self.embeds = [
            plain.embeds(plain.adapter(link.kind, self.family))
            if isinstance(link, PlainLink)
            else small_models.InstructEmbeds(self.adapter, "", tokens)
            for link, tokens in zip(self.links, self.tokens, strict=True)
        ]
        self.tokens = [one.image_tokens for one in self.embeds]

    def model(self, prepare):
        model = prepare(small_models.small_model(self.family))
        for link, embeds in zip(self.links, self.embeds, strict=True):
            scales = {"instruct_guidance": link.instruct_scale, "image_guidance": link.image_scale}
            model = plain.applied(model, embeds, weight=link.weight, guidance="three-way", **scales)
        return model

    def oracle(self, prepare):
        weights = [
            plain.tensors(link.kind, self.family)
            if isinstance(link, PlainLink)
            else golden_case(self.family).adapter_weights
            for link in self.links
        ]
        adapters = (OracleAdapter(w, link.weight) for w, link in zip(weights, self.links, strict=True))
        return prepare(oracle_model(self.family, tuple(adapters)))


CHAINS = {
    "plain_alone": (PlainLink(),),
    "plain_then_instruct": (PlainLink(kind="base"), Link(weight=0.5)),
    "instruct_then_plain": (Link(weight=0.5), PlainLink(kind="base")),
    "between_two": (Link(weight=0.4), PlainLink(weight=-0.5), Link(weight=0.5, instruct_scale=3.0, picture=1)),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_gives_each_row_its_tokens(chain):
    check(ksampler, MixedScene("sd15", CHAINS[chain]))


def test_a_chain_on_sdxl_does_too():
    check(ksampler, MixedScene("sdxl", CHAINS["instruct_then_plain"]))


def test_at_cfg_1_too():
    check(ksampler, MixedScene("sd15", CHAINS["instruct_then_plain"]), cfg=1.0)
