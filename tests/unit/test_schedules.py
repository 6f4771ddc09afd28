"""Schedules of the weight: what a text means, what is between its points, and where a noise level stands."""

import math

import pytest
from ipadapter_instruct.models.guidance.weight_schedule import (
    ALONG,
    BETWEEN,
    HOLD,
    LINEAR,
    NOISE,
    SMOOTH,
    STEPS,
    Schedule,
    from_list,
    noise_position,
    parse_schedule,
    step_position,
)
from ipadapter_instruct.models.messages import LONGEST_LIST

PARTS = "0: 1, 0.25: 0.5, 0.75: 2"


def factors(text: str, between: str, positions) -> list[float]:
    schedule = parse_schedule(text, between, NOISE)
    return [schedule.at(position) for position in positions]


def test_hold_keeps_a_factor_until_the_next_point():
    assert factors(PARTS, HOLD, [0, 0.2, 0.25, 0.5, 0.74, 0.75, 1]) == [1, 1, 0.5, 0.5, 0.5, 2, 2]


def test_linear_goes_straight_from_point_to_point():
    assert factors(PARTS, LINEAR, [0, 0.125, 0.25, 0.5, 0.75, 1]) == [1, 0.75, 0.5, 1.25, 2, 2]


def test_smooth_meets_linear_at_the_points_and_halfway_and_is_flat_at_the_points():
    assert factors(PARTS, SMOOTH, [0, 0.125, 0.25, 0.5, 0.75, 1]) == pytest.approx([1, 0.75, 0.5, 1.25, 2, 2])
    first, second, middle = factors("0: 0, 1: 1", SMOOTH, [0.01, 0.25, 0.5])
    assert first < 0.001
    assert second == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert middle == pytest.approx(0.5)


@pytest.mark.parametrize("between", BETWEEN)
def test_before_the_first_point_and_after_the_last_their_factors_hold(between):
    assert factors("0.3: 2, 0.6: 0.5", between, [0, 0.29, 0.6, 0.9, 1]) == [2, 2, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("between", BETWEEN)
def test_a_single_factor_is_constant(between):
    assert factors("0.7", between, [0, 0.5, 1]) == factors("0.4: 0.7", between, [0, 0.5, 1]) == [0.7] * 3


def test_a_step_that_begins_at_a_point_but_for_rounding_is_past_it():
    assert factors(PARTS, HOLD, [0.25 - 1e-9, 0.25 - 1e-4]) == [0.5, 1]


def test_factors_alone_are_for_equal_parts():
    found = parse_schedule("1, 0.8, 0.5, 0", HOLD, STEPS)
    assert found == from_list([1, 0.8, 0.5, 0])
    assert found.points == ((0, 1), (0.25, 0.8), (0.5, 0.5), (0.75, 0))


@pytest.mark.parametrize("text", ["0:1;0.5:-0.5", "0 : 1\n0.5 : -0.5\n", " 0: 1,\n 0.5: -.5, ", "0: 1,,0.5: -0.5;"])
def test_commas_semicolons_and_lines_part_the_points(text):
    assert parse_schedule(text, HOLD, NOISE).points == ((0, 1), (0.5, -0.5))


@pytest.mark.parametrize("count", [1, 3, 7, 20, 30, 100])
def test_a_list_has_a_factor_for_each_of_as_many_steps(count):
    schedule, sigmas = from_list(range(count)), [math.exp(-step / 7) for step in range(count)] + [0.0]
    assert [schedule.at(step_position(sigmas, sigma)) for sigma in sigmas[:-1]] == list(range(count))


@pytest.mark.parametrize(
    "text",
    [
        " ,\n",
        "strong",
        "0: 1, 0.5",
        "0.5, 0: 1",
        "0: 1, 0.5: ",
        "0: 1: 2",
        "0.5: 1, 0.2: 0",
        "0.5: 1, 0.5: 0",
        "-0.1: 1",
        "0: 1, 1.01: 0",
        "0: 1, 35: 0.5",
        "nan",
        "inf",
        "0: nan",
        "nan: 1",
    ],
)
def test_other_texts_are_refused_with_what_was_expected_and_found(text):
    with pytest.raises(
        ValueError, match=r"A schedule was expected: .* such as 0: 1, 0.35: 0.5.*Correct it\.$"
    ) as error:
        parse_schedule(text, HOLD, NOISE)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_1_throughout(text):
    schedule = parse_schedule(text, LINEAR, STEPS)
    assert schedule.is_steady
    assert [schedule.at(position) for position in (0, 0.4, 1)] == [1, 1, 1]
    assert not parse_schedule("0: 1, 1: 0.5", LINEAR, STEPS).is_steady


def test_a_text_too_long_to_be_meant_is_refused():
    with pytest.raises(ValueError, match="^factors was expected to hold at most"):
        parse_schedule("1" * (LONGEST_LIST + 1), HOLD, NOISE)


def test_a_list_of_nothing_is_refused():
    with pytest.raises(ValueError, match="A schedule was expected.* it is ''"):
        from_list([])
    with pytest.raises(ValueError, match=r"A schedule was expected.* it is '1\.0, nan'"):
        from_list([1.0, math.nan])


@pytest.mark.parametrize("between, along", [("jump", NOISE), (HOLD, "seconds")])
def test_unknown_choices_are_refused_by_name(between, along):
    name = "between" if along == NOISE else "along"
    with pytest.raises(ValueError, match=f"^{name} was expected to be one of .* it is '(jump|seconds)'"):
        parse_schedule("1", between, along)


@pytest.mark.parametrize("along", ALONG)
def test_a_schedule_keeps_what_it_was_made_of(along):
    for text in ("0: 1, 1: 0", "1, 0"):
        made = parse_schedule(text, SMOOTH, along)
        assert (made.between, made.along, made.curve) == (SMOOTH, along, None)


def test_a_curve_is_asked_for_positions_from_0_to_1_alone():
    asked = []
    schedule = Schedule(curve=lambda position: asked.append(position) or 0.5)
    assert [schedule.at(position) for position in (-0.1, 0, 0.3, 1, 1.2)] == [0.5] * 5
    assert asked == [0, 0, 0.3, 1, 1]


# Where a noise level stands


def test_the_steps_levels_stand_at_equal_distances():
    sigmas = [14.6, 5.0, 1.2, 0.3, 0.0]
    assert [step_position(sigmas, sigma) for sigma in sigmas] == [0, 0.25, 0.5, 0.75, 1]


def test_a_level_between_two_steps_stands_between_them():
    sigmas = [8.0, 4.0, 0.0]
    assert [step_position(sigmas, sigma) for sigma in (7.0, 6.0, 3.0, 1.0)] == [0.125, 0.25, 0.625, 0.875]


@pytest.mark.parametrize("sigmas, sigma, position", [([8.0, 4.0, 1.0], 0.5, 1.0), ([8.0, 4.0, 1.0], 9.0, 0.0)])
def test_a_level_outside_the_steps_stands_at_their_nearer_end(sigmas, sigma, position):
    assert step_position(sigmas, sigma) == position


def test_levels_that_repeat_count_as_steps():
    sigmas = [8.0, 8.0, 4.0, 0.0]
    assert step_position(sigmas, 4.0) == pytest.approx(2 / 3)
    assert step_position(sigmas, 6.0) == pytest.approx(1 / 2)
    assert step_position(sigmas, 9.0) == 0.0


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_a_position_on_the_schedule_is_where_it_has_the_level(power):
    for percent in (0.0, 0.01, 1 / 3, 0.5, 0.999):
        found = noise_position(lambda p: (1 - p) ** power, (1 - percent) ** power)
        assert found == pytest.approx(percent, abs=1e-6)


def test_levels_beyond_the_schedule_stand_at_its_ends():
    def falling(percent: float) -> float:
        return 10 - 9 * percent

    assert noise_position(falling, 11.0) == 0.0
    assert noise_position(falling, 0.5) == pytest.approx(1.0, abs=1e-6)
