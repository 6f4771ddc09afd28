"""Laws of guidance. Predictions are integers in float64, so that the laws hold exactly up to 1e-9."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.guidance.branches import Branches, host_coefficients

SCALES = [0.0, 0.5, 1.0, 2.0, 7.5]


def predictions() -> Branches:
    generator = torch.Generator().manual_seed(1)
    return Branches(*(torch.randint(-50, 50, (2, 4, 3, 3), generator=generator).double() for _ in range(4)))


def weighted(coefficients: Branches, p: Branches) -> torch.Tensor:
    return sum(coefficient * p[branch] for branch, coefficient in coefficients.items())


def guided(p: Branches, text: float, instruct: float, image: float, known: float | None = None) -> torch.Tensor:
    """A sampler's result of cfg `text` from the host's two predictions. known: its cfg, where the pack is told it."""
    coefficients = host_coefficients(instruct, image, known)
    cond, uncond = weighted(coefficients.cond, p), weighted(coefficients.uncond, p)
    return uncond + text * (cond - uncond)


def three_scales(p: Branches, text: float, instruct: float, image: float) -> torch.Tensor:
    """The formula of unity-research/IP-Adapter-Instruct@57efbe4, the extra_cfg pipelines' denoising loop."""
    everything, image_only = text * (p.everything - p.image_only), image * (p.image_only - p.uncond)
    return p.uncond + instruct * (p.full - p.everything) + everything + image_only


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_scales_of_one_give_the_full_branch():
    p = predictions()
    assert_same(guided(p, text=1, instruct=1, image=1), p.full)


def test_scales_of_zero_give_the_uncond_branch():
    p = predictions()
    assert_same(guided(p, text=0, instruct=0, image=0), p.uncond)


@pytest.mark.parametrize("scale", SCALES)
def test_equal_scales_are_classifier_free_guidance(scale):
    p = predictions()
    expected = p.uncond + scale * (p.full - p.uncond)

    assert_same(guided(p, scale, scale, scale), expected)
    assert_same(guided(p, scale, scale, scale, known=scale), expected)


def test_each_scale_stretches_its_own_rung_and_no_other():
    p = predictions()
    plain = guided(p, text=1, instruct=1, image=1)

    for scale, rung in (
        ("instruct", p.full - p.everything),
        ("text", p.everything - p.image_only),
        ("image", p.image_only - p.uncond),
    ):
        stretched = guided(p, **{"text": 1, "instruct": 1, "image": 1, scale: 3})
        assert_same(stretched - plain, 2 * rung)


@pytest.mark.parametrize(("instruct", "image"), list(itertools.product(SCALES, repeat=2)))
def test_a_sampler_of_any_cfg_makes_three_scale_guidance_of_the_two_host_predictions(instruct, image):
    p = predictions()
    for cfg in SCALES:
        assert_same(guided(p, cfg, instruct, image), three_scales(p, cfg, instruct, image))


@pytest.mark.parametrize(("instruct", "image"), list(itertools.product(SCALES, repeat=2)))
def test_coefficients_sum_to_one_so_noise_and_denoised_latents_combine_alike(instruct, image):
    coefficients = host_coefficients(instruct, image)

    for side in (coefficients.cond, coefficients.uncond):
        assert sum(value for _, value in side.items()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("instruct", SCALES)
def test_an_image_scale_of_one_needs_no_uncond_pass(instruct):
    coefficients = host_coefficients(instruct, image_scale=1.0)
    assert coefficients.cond.uncond == coefficients.uncond.uncond == 0


@pytest.mark.parametrize(("text", "image"), list(itertools.product(SCALES, repeat=2)))
def test_equal_text_and_instruct_scales_need_no_pass_of_everything(text, image):
    p = predictions()
    coefficients = host_coefficients(text, image, text_scale=text)
    assert coefficients.cond.everything == coefficients.uncond.everything == 0

    assert_same(guided(p, text, text, image, known=text), three_scales(p, text, text, image))
    for side in (coefficients.cond, coefficients.uncond):
        assert sum(value for _, value in side.items()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("text", SCALES)
def test_equal_scales_and_an_image_scale_of_one_need_two_passes(text):
    coefficients = host_coefficients(text, 1.0, text_scale=text)
    assert coefficients.cond == Branches(full=1, everything=0, image_only=0, uncond=0)
    assert coefficients.uncond == Branches(full=0, everything=0, image_only=1, uncond=0)


@pytest.mark.parametrize(("instruct", "image"), list(itertools.product(SCALES, repeat=2)))
def test_a_text_scale_that_differs_changes_no_coefficient(instruct, image):
    for text in (None, instruct + 1e-9, instruct - 1):
        assert host_coefficients(instruct, image, text_scale=text) == host_coefficients(instruct, image)
