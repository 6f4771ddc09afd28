"""Several references in one Apply, by the host's samplers and guiders, against the oracle."""

from dataclasses import dataclass

import comfy.model_management
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.branches import Branches
from support import small_models
from support.host_node import host_node
from support.sampling import oracle_model
from support.sampling.host_samplers import CFG, SEED, STEPS, check, ksampler, latent, pair_with_area, sampled
from support.sampling.scenes import Link, Scene, text

REFERENCES = 3
CHAINS = {"simple": (Link(guidance="simple"),), "three-way": (Link(),)}


def references(tokens: Branches) -> Branches:
    """[REFERENCES, T, width]: other pictures' tokens, made of one's."""
    return tokens.map(lambda t: torch.cat([t.roll(7 * n, dims=-1) for n in range(REFERENCES)]))


# One reference for each latent of a batch


@dataclass
class SceneOfReferences(Scene):
    """Every link shows as many pictures as there are latents."""

    def __post_init__(self):
        super().__post_init__()
        self.tokens = [references(tokens) for tokens in self.tokens]


@pytest.mark.spread("family", "guidance")
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
@pytest.mark.parametrize("guidance", CHAINS)
def test_samplers_give_each_latent_its_reference(family, guidance, sampler):
    check(ksampler, SceneOfReferences(family, CHAINS[guidance]), batch=REFERENCES, sampler=sampler)


@pytest.mark.long("test_samplers splits batches")
@pytest.mark.parametrize("guidance", CHAINS)
def test_conditions_split_for_want_of_memory_keep_the_references(family, guidance, monkeypatch):
    def none_free(device=None, torch_free_too=False):
        return (0, 0) if torch_free_too else 0

    monkeypatch.setattr(comfy.model_management, "get_free_memory", none_free)
    check(ksampler, SceneOfReferences(family, CHAINS[guidance]), batch=REFERENCES)


def test_at_cfg_1_each_latent_follows_its_reference(family):
    check(ksampler, SceneOfReferences(family), batch=REFERENCES, cfg=1.0)


@pytest.mark.parametrize("chain", [(Link(),), (Link(guidance="simple", picture=2), Link(weight=0.4))], ids=len)
def test_dual_cfg_gives_each_latent_its_reference(family, chain):
    scene = SceneOfReferences(family, chain)

    def run(form):
        second = form.conditions("positive", text("second", family))
        conds = (form.conditions("positive"), second, form.conditions("negative"))
        guider = host_node(custom.DualCFGGuider, form.model, *conds, 3.0, CFG, "regular")[0]
        sigmas = host_node(custom.BasicScheduler, form.model, "normal", STEPS, 1.0)[0]
        sampler, noise = host_node(custom.KSamplerSelect, "euler")[0], host_node(custom.RandomNoise, SEED)[0]
        return sampled(
            host_node(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent(form, REFERENCES))
        )

    check(run, scene)


def test_areas_keep_each_latents_reference(family):
    check(lambda form: ksampler(form, conds=pair_with_area(form), batch=REFERENCES), SceneOfReferences(family))


# All together, with weights of their own


TOKEN_WEIGHTS = torch.rand(1, REFERENCES * 16, generator=torch.Generator().manual_seed(3)) * 2 - 0.5


@dataclass
class SceneOfWeights(Scene):
    """All pictures together, every token with a weight of its own."""

    def __post_init__(self):
        super().__post_init__()
        self.tokens = [references(tokens).map(lambda t: t.flatten(0, 1)[None]) for tokens in self.tokens]

    def model(self, prepare):
        (link,), (tokens,) = self.links, self.tokens
        settings = {k: v for k, v in vars(link).items() if k != "picture"}
        embeds = InstructEmbeds(self.adapter, "", tokens, TOKEN_WEIGHTS)
        return small_models.applied(prepare(small_models.small_model(self.family)), embeds, **settings)


def weighted_values(model, tokens):
    """The oracle's attention to image tokens, of which each has its factor in what is summed up."""

    def attention(index: int):
        def patch(other, q, k, v, extra_options):
            heads, (adapter,), (image,) = extra_options["n_heads"], model.adapters, tokens
            keys, values = (
                image @ adapter.weights[f"ip_adapter.{2 * index + 1}.{name}.weight"].T for name in oracle_layers
            )
            q, k, v, keys, values = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v, keys, values))
            of_text, of_image = (oracle_scores(q, other_keys) for other_keys in (k, keys))
            out = of_text @ v + adapter.strength * ((of_image * TOKEN_WEIGHTS[0]) @ values)
            return out.transpose(1, 2).flatten(2)

        return patch

    return "attn2", {site: attention(index) for index, site in enumerate(oracle_model.SITES[model.family])}


oracle_layers = ("to_k_ip", "to_v_ip")


def oracle_scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)


@pytest.mark.parametrize("guidance", CHAINS)
@pytest.mark.parametrize("unet_family", ["sd15", "sdxl"])
def test_a_tokens_weight_is_the_factor_on_its_part_of_the_attention(unet_family, guidance, monkeypatch):
    monkeypatch.setitem(oracle_model.INJECTIONS, unet_family, weighted_values)
    check(ksampler, SceneOfWeights(unet_family, CHAINS[guidance]), batch=2)
