"""Guidance with any scales over any predictions, and where a noise level stands among any steps."""

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from ipadapter_instruct.models.guidance.branches import Branch, Branches, branch_texts, count_passes, host_coefficients
from ipadapter_instruct.models.guidance.weight_schedule import from_list, noise_position, step_position

scales = st.sampled_from((0.0, 1.0, 2.0, 0.5)) | st.floats(-4, 20, allow_subnormal=False)
seeds = st.integers(0, 2**32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))


def predictions(seed: int, shape, dtype=torch.float64) -> Branches:
    made = torch.Generator().manual_seed(seed)
    return Branches(*(torch.randn(shape, generator=made, dtype=torch.float64).to(dtype) for _ in Branch))


def plainly(p: Branches, text: float, instruct: float, image: float) -> torch.Tensor:
    """The paper's formula, gathered by branches."""
    return instruct * p.full + (text - instruct) * p.everything + (image - text) * p.image_only + (1 - image) * p.uncond


def weighted(coefficients: Branches, p: Branches) -> torch.Tensor:
    return sum(coefficient * p[branch] for branch, coefficient in coefficients.items())


def guided(p: Branches, text: float, instruct: float, image: float, known: float | None = None) -> torch.Tensor:
    """A sampler's result of cfg `text` from the host's two predictions. known: its cfg, where the pack is told it."""
    made = host_coefficients(instruct, image, known)
    cond, uncond = weighted(made.cond, p), weighted(made.uncond, p)
    return uncond + text * (cond - uncond)


def close(found, expected, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * (1 + float(expected.abs().max())))


@given(seeds, shapes, scales, scales, scales)
def test_three_scales_are_the_plain_formula(seed, shape, text, instruct, image):
    p = predictions(seed, shape)
    close(guided(p, text, instruct, image), plainly(p, text, instruct, image))


@given(seeds, shapes, scales, scales, scales)
def test_the_host_makes_it_of_its_two_predictions_whether_its_cfg_is_known_or_not(seed, shape, text, instruct, image):
    p = predictions(seed, shape)
    for known in (None, text, instruct):
        if known == instruct and text != instruct:
            continue  # then another cfg is known than the sampler's
        is_left_out = not host_coefficients(instruct, image, known).cond.everything
        event("everything left out" if is_left_out else "all branches")
        close(guided(p, text, instruct, image, known), plainly(p, text, instruct, image))


@given(scales, scales, st.none() | scales)
def test_coefficients_sum_to_one_and_a_step_has_from_one_to_four_passes(instruct, image, text):
    made = host_coefficients(instruct, image, text)
    for side in (made.cond, made.uncond):
        assert sum(value for _, value in side.items()) == pytest.approx(1, abs=1e-12)
    used = {branch for branch in Branch if made.cond[branch] or (made.uncond[branch] and text != 1)}
    assert count_passes(instruct, image, text) == len(used)
    assert 1 <= len(used) <= 4
    event(f"passes: {len(used)}")


@given(seeds, st.integers(2, 5), scales, scales, scales, st.randoms(use_true_random=False))
def test_rows_of_a_batch_in_any_order_and_in_any_parts_are_combined_alike(seed, rows, text, instruct, image, random):
    p, own = predictions(seed, (rows, 2, 3, 3)), (text, instruct, image)
    order = random.sample(range(rows), rows)
    whole = guided(p, *own)
    torch.testing.assert_close(guided(p.map(lambda x: x[order]), *own), whole[order], rtol=0, atol=0)
    at = random.randrange(1, rows)
    parts = [guided(p.map(lambda x, s=s: x[s]), *own) for s in (slice(at), slice(at, None))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


@given(seeds, st.sampled_from((torch.float16, torch.bfloat16, torch.float32)), scales, scales, scales)
def test_in_any_dtype_the_formula_is_its_own_within_rounding(seed, dtype, text, instruct, image):
    p = predictions(seed, (1, 2, 3, 3), dtype)
    found = guided(p, text, instruct, image)
    assert found.dtype == dtype
    gains = 1 + 2 * (abs(text) + abs(instruct) + abs(image))
    largest = max(float(x.abs().max()) for _, x in p.items())
    room = 8 * torch.finfo(dtype).eps * gains * (1 + largest)
    torch.testing.assert_close(
        found.double(), plainly(p.map(torch.Tensor.double), text, instruct, image), rtol=0, atol=room
    )


@given(st.text(), st.text(), st.text(), st.text())
def test_the_negative_instruction_reaches_only_branches_that_guidance_moves_away_from(
    instruction, prompt, negative, own
):
    without, texts = branch_texts(instruction, prompt, negative), branch_texts(instruction, prompt, negative, own)
    assert (texts.full, texts.everything) == (without.full, without.everything)
    assert all(text.prompt == without[branch].prompt for branch, text in texts.items())
    assert texts.uncond.instruct == own and (texts == without) == (not own or own == without.image_only.instruct == "")


# Where a noise level stands


falling = st.lists(st.floats(0.01, 80), min_size=1, max_size=12, unique=True).map(lambda own: [*sorted(own)[::-1], 0.0])


@given(falling, st.data())
def test_positions_among_steps_rise_as_levels_fall_and_steps_begin_at_equal_distances(sigmas, data):
    assert [step_position(sigmas, s) for s in sigmas] == pytest.approx(
        [n / (len(sigmas) - 1) for n in range(len(sigmas))]
    )
    one, other = sorted(data.draw(st.tuples(st.floats(0, 100), st.floats(0, 100))))
    assert 0 <= step_position(sigmas, other) <= step_position(sigmas, one) <= 1


@given(falling, st.data())
def test_as_many_factors_as_steps_are_one_a_step(sigmas, data):
    steps = len(sigmas) - 1
    factors = data.draw(st.lists(st.floats(-2, 2), min_size=steps, max_size=steps))
    schedule = from_list(factors)
    assert [schedule.at(step_position(sigmas, sigma)) for sigma in sigmas[:-1]] == factors


@given(st.floats(0.2, 5), st.floats(0.1, 100), st.floats(0, 1))
def test_a_position_on_a_noise_schedule_is_where_it_has_the_level(power, largest, percent):
    def level(place: float) -> float:
        return largest * (1 - place) ** power

    found = noise_position(level, level(percent))
    assert 0 <= found <= 1
    if percent < 0.99:
        assert found == pytest.approx(percent, abs=1e-6)
    else:  # where the level may fall so steeply that its digits tell little
        assert found > 0.98
