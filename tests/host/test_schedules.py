"""Weights that change while a picture is sampled, under the host's samplers.

Expected is an oracle (support/sampling/oracle_model.py) whose strength is set anew at each call of the model, by the
noise level of the call alone: ComfyUI tells it that, and the levels of the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.hooks
import numpy as np
import pytest
import torch
from comfy_extras import nodes_hooks, nodes_model_advanced
from ipadapter_instruct.models.guidance.weight_schedule import Schedule, parse_schedule
from support import small_models
from support.golden_cases import golden_case
from support.sampling.host_samplers import CFG, SEED, check, ksampler, latent, pair, sampled
from support.sampling.oracle_model import OracleAdapter, OracleModel
from support.sampling.scenes import Link, OracleForm, PackForm, Scene
from support.sampling.short_runs import close

import nodes as host_nodes

NOISE, STEPS = "percent of the schedule", "steps"
SAMPLERS = ["euler", "heun", "dpm_2", "dpmpp_sde", "dpmpp_2s_ancestral", "uni_pc"]
FADE = ("0: 1, 1: 0.25", "linear")


class ScheduledOracle(OracleModel):
    """factor: on the adapters' strength, of the noise level and of the steps' levels."""

    factor: Callable[[float, np.ndarray], float]
    full: tuple[OracleAdapter, ...]

    def _with_tokens(self, options: dict, tokens: list) -> dict:
        factor = self.factor(float(options["sigmas"][0]), options["sample_sigmas"].numpy())
        self.adapters = tuple(replace(adapter, strength=factor * adapter.strength) for adapter in self.full)
        return super()._with_tokens(options, tokens)


@dataclass
class ScheduledScene(Scene):
    """A scene of one adapter whose weight changes. factor: the oracle's, given its model's sampling too."""

    schedule: Schedule | None = None
    factor: Callable | None = None

    def model(self, prepare):
        settings = {k: v for k, v in vars(self.links[0]).items() if k != "picture"}
        embeds = small_models.InstructEmbeds(self.adapter, "", self.tokens[0])
        return small_models.applied(
            prepare(small_models.small_model(self.family)), embeds, schedule=self.schedule, **settings
        )

    def oracle(self, prepare):
        patcher = prepare(small_models.small_model(self.family, ScheduledOracle))
        patcher.model.full = (OracleAdapter(golden_case(self.family).adapter_weights, self.links[0].weight),)
        patcher.model.adapters = patcher.model.full
        sampling = patcher.get_model_object("model_sampling")
        patcher.model.factor = lambda sigma, sigmas: self.factor(sampling, sigma, sigmas)
        return patcher


def noise_position(sampling, sigma: float) -> float:
    """Source: ComfyUI 0.3.75, comfy/model_sampling.py: the two kinds of percent_to_sigma, solved for the percentage."""
    if hasattr(sampling, "log_sigmas"):
        levels = sampling.log_sigmas.numpy().astype(float)
        return 1 - np.interp(np.log(sigma), levels, np.arange(len(levels))) / 999
    return 1 - sigma / (sampling.shift - (sampling.shift - 1) * sigma)


def step_position(sigma: float, sigmas: np.ndarray) -> float:
    return np.interp(-sigma, -sigmas, np.linspace(0, 1, len(sigmas)))


def fade(along: str) -> Callable:
    """1 at the beginning, a quarter at the end, straight."""

    def factor(sampling, sigma, sigmas):
        position = noise_position(sampling, sigma) if along == NOISE else step_position(sigma, sigmas)
        return 1 - 0.75 * position

    return factor


def fading(family: str, along: str, **link) -> ScheduledScene:
    return ScheduledScene(family, (Link(**link),), schedule=parse_schedule(*FADE, along), factor=fade(along))


def agree(scene: Scene, prepare=lambda model: model, **options) -> torch.Tensor:
    """Compare as `check` does, with room for what heun and zero terminal SNR make of a float's last digits."""
    found, expected = (ksampler(form(scene, prepare), **options) for form in (PackForm, OracleForm))
    close(found, expected, tolerance=5e-4)
    return found


@pytest.mark.spread("family", "sampler")
@pytest.mark.parametrize("along", [NOISE, STEPS])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_weight_follows_the_noise_level_of_each_call(family, sampler, along):
    agree(fading(family, along), sampler=sampler)


@pytest.mark.parametrize("along", [NOISE, STEPS])
def test_in_simple_guidance_too(family, along):
    check(ksampler, fading(family, along, guidance="simple"), batch=2)


def run_advanced(form, start: int, end: int) -> torch.Tensor:
    sampler, (positive, negative) = host_nodes.KSamplerAdvanced(), pair(form)
    settings = ("enable", SEED, 5, CFG, "euler", "normal", positive, negative, latent(form), start, end, "enable")
    return sampled(sampler.sample(form.model, *settings))


def run_denoise(form) -> torch.Tensor:
    positive, negative = pair(form)
    settings = (SEED, 3, CFG, "euler", "normal", positive, negative, latent(form), 0.5)
    return sampled(host_nodes.KSampler().sample(form.model, *settings))


@pytest.mark.spread("family", "start")
@pytest.mark.parametrize("along", [NOISE, STEPS])
@pytest.mark.parametrize("start, end", [(0, 3), (2, 5), (1, 10000)])
def test_in_a_part_of_the_steps(family, along, start, end):
    check(run_advanced, fading(family, along), start=start, end=end)


@pytest.mark.parametrize("along", [NOISE, STEPS])
def test_when_a_picture_is_changed_by_half(family, along):
    check(run_denoise, fading(family, along))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_as_many_factors_as_steps_are_one_a_step(family, sampler):
    """heun's second call of a step is at the next one's level, and has the weight of that."""
    factors = [0.2, 0.9, 0.5]

    def factor(sampling, sigma, sigmas):
        return factors[int(np.flatnonzero(np.isclose(sigmas, sigma, rtol=1e-5, atol=0))[0])]

    def run(form):
        positive, negative = pair(form)
        settings = (SEED, 3, CFG, sampler, "normal", positive, negative, latent(form), 1.0)
        return sampled(host_nodes.KSampler().sample(form.model, *settings))

    schedule = parse_schedule("0.2, 0.9, 0.5", "hold", STEPS)
    check(run, ScheduledScene(family, schedule=schedule, factor=factor))


# Other noise schedules


def with_sampling(node: str, *settings) -> Callable:
    return lambda model: getattr(nodes_model_advanced, node)().patch(model, *settings)[0]


@pytest.mark.parametrize(
    "family, prepare",
    [
        ("sd15", with_sampling("ModelSamplingDiscrete", "v_prediction", False)),
        ("sd15", with_sampling("ModelSamplingDiscrete", "v_prediction", True)),
        ("sd3", with_sampling("ModelSamplingSD3", 1.5)),
    ],
    ids=["v-prediction", "zero terminal SNR", "SD3's shift"],
)
def test_positions_are_those_of_another_noise_schedule(family, prepare):
    scene = fading(family, NOISE)
    found = agree(scene, prepare)
    assert not torch.allclose(found, ksampler(PackForm(scene)), atol=0.01)


# Hooks on the conditioning


def lora_hook(strength: float = 1.0) -> comfy.hooks.HookGroup:
    """A LoRA on a cross-attention's queries, at a strength that changes with two keyframes."""
    made, name = torch.Generator().manual_seed(1), "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_q"
    lora = {
        f"{name}.lora_up.weight": torch.randn(32, 2, generator=made),
        f"{name}.lora_down.weight": torch.randn(2, 32, generator=made),
        f"{name}.alpha": torch.tensor(2.0),
    }
    hooks = comfy.hooks.create_hook_lora(lora, strength, 0.0)
    keyframes = None
    for start, factor in ((0.0, 1.0), (0.5, 0.2)):
        (keyframes,) = nodes_hooks.CreateHookKeyframe().create_hook_keyframe(factor, start, keyframes)
    return nodes_hooks.SetHookKeyframes().set_hook_keyframes(hooks, keyframes)[0]


def run_hooked(form, strength: float = 1.0) -> torch.Tensor:
    hooks = lora_hook(strength)
    return ksampler(form, conds=tuple(comfy.hooks.set_hooks_for_conditioning(conds, hooks) for conds in pair(form)))


@pytest.mark.long("each is tested alone")
@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_a_lora_with_keyframes_of_its_own_runs_beside_a_schedule(guidance):
    scene = fading("sd15", NOISE, guidance=guidance)
    check(run_hooked, scene)
    assert not torch.allclose(run_hooked(PackForm(scene)), ksampler(PackForm(scene)), atol=0.01)
    close(run_hooked(PackForm(scene), strength=0.0), ksampler(PackForm(scene)))
