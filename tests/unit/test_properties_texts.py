"""Texts that a user types: what is printed is read back, and any other text is read or refused in the pack's words."""

import math
import re

import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from ipadapter_instruct.models.encoding.combining import parse_numbers
from ipadapter_instruct.models.families import SD3, SD15, SDXL
from ipadapter_instruct.models.guidance.layer_weights import (
    SCALINGS,
    WEIGHT_TYPES,
    Layer,
    LayerFactor,
    LayerWeights,
    layer_factors,
    parse_layers,
)
from ipadapter_instruct.models.guidance.weight_schedule import (
    ALONG,
    BETWEEN,
    HOLD,
    NOISE,
    SMOOTH,
    STEPS,
    Schedule,
    parse_schedule,
)

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
places = st.floats(0, 1)
separators = st.sampled_from((", ", ",", ";", " ;\n", ",,", " , \n"))
spaces = st.sampled_from(("", " ", "\t "))  # a new line is a separator

# What looks like the texts that are meant, and any other.
pieces = st.sampled_from(("0", "1", "0.5", ":", ",", ";", " ", "\n", "-", ".", "e", "6.0", "nan", "inf", "_", "x", "é"))
texts = st.text(max_size=20) | st.lists(pieces, max_size=12).map("".join)


def refusal(call) -> str | None:
    """The pack's objection to it, None where it takes it; any other error is the test's."""
    try:
        call()
    except ValueError as error:
        event("refused")
        return str(error)
    event("read")
    return None


def printed(pairs, separator: str, space: str) -> str:
    return separator.join(f"{space}{first}{space}:{space}{second}" for first, second in pairs)


# Schedules


@given(st.dictionaries(places, numbers, min_size=1, max_size=6), separators, spaces, st.sampled_from(BETWEEN))
def test_a_schedule_that_is_printed_is_read_back(points, separator, space, between):
    pairs = tuple(sorted(points.items()))
    for along in ALONG:
        assert parse_schedule(printed(pairs, separator, space), between, along) == Schedule(pairs, between, along)


@given(st.lists(numbers, min_size=1, max_size=9), separators)
def test_a_list_that_is_printed_has_its_factors_at_equal_distances(factors, separator):
    points = parse_schedule(separator.join(map(str, factors)), HOLD, STEPS).points
    assert [factor for _, factor in points] == factors
    assert [place for place, _ in points] == [n / len(factors) for n in range(len(factors))]


@given(texts, st.sampled_from(BETWEEN), st.sampled_from(ALONG))
@example("1_0: 1", HOLD, NOISE)
@example("0: 1e400", HOLD, NOISE)
def test_any_text_is_a_schedule_or_is_refused(text, between, along):
    message = refusal(lambda: parse_schedule(text, between, along))
    if message is not None:
        assert message.startswith("A schedule was expected: ") and repr(text) in message
        return
    schedule = parse_schedule(text, between, along)
    places = [place for place, _ in schedule.points]
    assert places == sorted(set(places)) and 0 <= places[0] <= places[-1] <= 1
    assert all(math.isfinite(schedule.at(n / 20)) for n in range(-2, 23))


# Numbers for pictures and latents


@given(st.lists(numbers, max_size=6), st.sampled_from((", ", ",", ";", " ", "\n", " , ")))
def test_numbers_that_are_printed_are_read_back(values, separator):
    assert parse_numbers(separator.join(map(str, values)), "batch_factors") == tuple(values)


@given(texts)
def test_any_text_is_numbers_or_is_refused(text):
    message = refusal(lambda: parse_numbers(text, "batch_factors"))
    if message is None:
        assert all(math.isfinite(number) for number in parse_numbers(text, "batch_factors"))
    else:
        assert message.startswith("batch_factors was expected to be numbers") and repr(text) in message


# Layers


@st.composite
def models(draw) -> list[Layer]:
    """A model's layers: so many groups of so many."""
    groups = draw(st.lists(st.tuples(st.sampled_from(("input", "middle", "output")), st.integers(1, 4)), min_size=1))
    return [Layer(group, number, part) for group, (part, count) in enumerate(groups) for number in range(count)]


@given(models(), st.data(), separators, spaces)
def test_layer_weights_that_are_printed_are_read_back(layers, data, separator, space):
    own = data.draw(st.dictionaries(st.sampled_from(layers), numbers))
    names = printed([(f"{layer.group}.{layer.number}", factor) for layer, factor in own.items()], separator, space)
    assert parse_layers(names, layers) == {layer: own.get(layer, 0.0) for layer in layers}
    groups = data.draw(st.dictionaries(st.sampled_from([layer.group for layer in layers]), numbers))
    both = separator.join(filter(None, (names, printed(groups.items(), separator, space))))
    assert parse_layers(both, layers) == {layer: own.get(layer, groups.get(layer.group, 0.0)) for layer in layers}


@given(models(), texts)
def test_any_text_is_layer_weights_or_is_refused(layers, text):
    message = refusal(lambda: parse_layers(text, layers))
    if message is None:
        assert all(math.isfinite(factor) for factor in parse_layers(text, layers).values())
    else:
        assert re.match("layer_weights was expected to (be layers with factors|name layers from 0 to)", message)


@given(st.sampled_from((SD15, SDXL, SD3)), models(), st.sampled_from(WEIGHT_TYPES), st.sampled_from(SCALINGS))
def test_every_type_gives_a_factor_for_each_layer_from_0_to_1_or_is_refused(family, layers, weight_type, scaling):
    weights = LayerWeights(weight_type, scaling=scaling)
    message = refusal(lambda: layer_factors(weights, family, layers))
    if message is not None:
        assert family is SD3 and re.match("weight_type .* is known for|scaling .* was chosen for SD3", message)
        return
    found = layer_factors(weights, family, layers)
    assert len(found) == len(layers)
    assert all(0 <= one.factor <= 1 for one in found)


@given(st.sampled_from((SD15, SDXL, SD3)), models(), numbers)
def test_all_layers_by_name_are_a_factor_everywhere(family, layers, factor):
    own = ", ".join(f"{group}: {factor}" for group in {layer.group for layer in layers})
    assert set(layer_factors(LayerWeights(own=own), family, layers)) == {LayerFactor(factor)}


# What a schedule is in between


@given(st.dictionaries(places, numbers, min_size=1, max_size=6), st.sampled_from(BETWEEN), st.floats(-0.5, 1.5))
def test_a_schedules_factor_lies_between_its_neighbours(points, between, position):
    pairs = tuple(sorted(points.items()))
    found = Schedule(pairs, between).at(position)
    before = [factor for place, factor in pairs if place <= position + 2e-6] or [pairs[0][1]]
    after = [factor for place, factor in pairs if place > position] or [pairs[-1][1]]
    low, high = sorted((before[-1], after[0]))
    room = 1e-9 * max(abs(low), abs(high)) + 1e-5 * (high - low)
    assume(all(abs(a - b) > 1e-4 for a, b in zip(sorted(points), sorted(points)[1:], strict=False)))
    assert low - room <= found <= high + room
    if between == HOLD:
        assert found in points.values()


@given(st.dictionaries(places, numbers, min_size=2, max_size=6), st.sampled_from(BETWEEN[1:]))
def test_linear_and_smooth_turn_around_with_the_picture_of_their_points(points, between):
    """Seen from its end, a schedule is that of the points seen from the end."""
    pairs = sorted(points.items())
    assume(all(b - a > 1e-3 for (a, _), (b, _) in zip(pairs, pairs[1:], strict=False)))
    turned = Schedule(tuple((1 - place, factor) for place, factor in reversed(pairs)), between)
    for n in range(11):
        found, expected = turned.at(1 - n / 10), Schedule(tuple(pairs), between).at(n / 10)
        steepest = max(abs(b - a) / (q - p) for (p, a), (q, b) in zip(pairs, pairs[1:], strict=False))
        assert found == pytest.approx(expected, abs=1e-5 * steepest + 1e-9, rel=1e-9)


@given(st.lists(numbers, min_size=2, max_size=6), st.integers(0, 10))
def test_smooth_is_linear_at_the_points_and_halfway(factors, n):
    smooth, linear = (Schedule(tuple((k / 8, f) for k, f in enumerate(factors)), b) for b in (SMOOTH, "linear"))
    assert smooth.at(n / 16) == pytest.approx(linear.at(n / 16), rel=1e-6, abs=1e-6 * max(map(abs, factors)) + 1e-12)
