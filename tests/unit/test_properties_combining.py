"""Image tokens of any sizes, dtypes and weights, combined in any way. Bit for bit unless a tolerance is given."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, event, given
from hypothesis import strategies as st
from ipadapter_instruct.models.encoding.combining import (
    ADD,
    AVERAGE,
    CONCAT,
    METHODS,
    MODES,
    PER_INDEX,
    SUBTRACT,
    ImageTokens,
    combine_references,
    combine_two,
    concatenate,
    latent_weights,
    product_of_cycles,
)
from ipadapter_instruct.models.guidance.branches import Branch, Branches

factors = st.sampled_from((1.0, 0.0, 0.5, -1.0)) | st.floats(-3, 3, allow_subnormal=False, width=32)
dtypes = st.sampled_from((torch.float32, torch.float16, torch.bfloat16, torch.float64))
seeds = st.integers(0, 2**32)


def tokens(references: int, count: int, width: int, seed: int, dtype=torch.float32) -> Branches:
    made = torch.Generator().manual_seed(seed)
    return Branches(*(torch.randn(references, count, width, generator=made).to(dtype) for _ in Branch))


@st.composite
def batches(draw) -> Branches:
    """Tokens [B, T, D] of some references."""
    sizes = (draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    return tokens(*sizes, draw(seeds), draw(dtypes))


def weights_for(draw, references: int, mode: str) -> tuple[float, ...]:
    weights = tuple(draw(st.just(()) | st.tuples(*[factors] * references)))
    assume(not weights or any(weights))
    assume(mode != AVERAGE or not weights or abs(sum(weights)) > 0.1)
    return weights


def same(found: ImageTokens, expected: ImageTokens) -> None:
    for branch, values in expected.branches.items():
        torch.testing.assert_close(found.branches[branch], values, rtol=0, atol=0)
    torch.testing.assert_close(found.all_weights(), expected.all_weights(), rtol=0, atol=0)


def attended(queries: torch.Tensor, own: ImageTokens, branch: Branch) -> torch.Tensor:
    """The output of a cross-attention whose keys and values are the tokens."""
    keys = own.branches[branch].double()
    values = keys.flip(-1) * own.all_weights().double().unsqueeze(-1)
    return F.scaled_dot_product_attention(queries.expand(len(keys), -1, -1), keys, values)


def queries_for(own: Branches, seed: int) -> torch.Tensor:
    shape = (1, 3, own.full.shape[-1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(batches(), st.sampled_from(MODES), st.data())
def test_references_keep_their_dtype_and_have_the_modes_shape(own, mode, data):
    weights = weights_for(data.draw, len(own.full), mode)
    references, count, width = own.full.shape
    used = sum(weight != 0 for weight in weights) if weights else references
    found = combine_references(own, mode, weights)
    latents, per_latent = {CONCAT: (1, used * count), AVERAGE: (1, count), PER_INDEX: (references, count)}[mode]
    event(f"{mode}, weights: {bool(weights)}")
    for _, values in found.branches.items():
        assert values.shape == (latents, per_latent, width) and values.dtype == own.full.dtype
    assert found.weights is None or found.weights.shape == found.shape


@given(batches(), seeds, st.data())
def test_the_order_of_concatenated_references_does_not_change_what_a_unet_sees(own, seed, data):
    """Within 1e-9, in float64."""
    weights = weights_for(data.draw, len(own.full), CONCAT) or (1.0,) * len(own.full)
    order = data.draw(st.permutations(range(len(own.full))))
    found = combine_references(own.map(lambda x: x[order]), CONCAT, tuple(weights[n] for n in order))
    expected = combine_references(own, CONCAT, weights)
    for branch in Branch:
        one, other = (attended(queries_for(own, seed), each, branch) for each in (found, expected))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@given(batches(), st.data())
def test_an_average_is_the_plain_one_in_any_order_and_of_any_scale(own, data):
    weights = weights_for(data.draw, len(own.full), AVERAGE) or (1.0,) * len(own.full)
    order = data.draw(st.permutations(range(len(own.full))))
    found = combine_references(own.map(lambda x: x[order]), AVERAGE, tuple(weights[n] for n in order))
    doubled = combine_references(own, AVERAGE, tuple(2 * weight for weight in weights))
    room = 40 * torch.finfo(own.full.dtype).eps + 1e-5  # weights are float32
    room *= 1 + 4 * sum(map(abs, weights)) / abs(sum(weights))
    for branch, values in own.items():
        expected = sum(w * x.double() for w, x in zip(weights, values, strict=True)) / sum(weights)
        for made in (found, doubled):
            torch.testing.assert_close(made.branches[branch][0].double(), expected, rtol=0, atol=room)


@given(batches(), st.data())
def test_one_per_latent_leaves_each_reference_and_its_weight_as_they_are(own, data):
    weights = weights_for(data.draw, len(own.full), PER_INDEX)
    found = combine_references(own, PER_INDEX, weights)
    same(ImageTokens(found.branches), ImageTokens(own))
    left, of_latents = latent_weights(found)
    if set(weights) - {1.0}:
        assert left.weights is None and of_latents == pytest.approx(weights)
    else:
        assert found.weights is None and of_latents == ()


@given(batches(), st.sampled_from((CONCAT, PER_INDEX)), st.data())
def test_references_of_weight_1_are_those_without_weights(own, mode, data):
    same(combine_references(own, mode, (1.0,) * len(own.full)), combine_references(own, mode))


@given(batches(), batches(), st.tuples(factors, factors), st.sampled_from(METHODS))
def test_any_two_sets_are_combined_or_refused_in_the_packs_words(first, second, weights, method):
    one, other = ImageTokens(first), ImageTokens(second)
    width = first.full.shape[-1]
    other = ImageTokens(second.map(lambda x: torch.nn.functional.pad(x, (0, 9))[..., :width]))
    try:
        found = combine_two(one, other, method, weights)
    except ValueError as error:
        event("refused")
        assert any(words in str(error) for words in ("was expected", "were expected"))
        return
    event(f"made by {method}")
    kept = one if weights[0] else other
    assert all(values.dtype == kept.branches.full.dtype for _, values in found.branches.items())
    if not all(weights):
        latents = found.shape[0]
        expected = kept if method != CONCAT or weights[0] + weights[1] == 1 else None
        assert latents in (one.shape[0], other.shape[0])
        if expected and method in (AVERAGE, CONCAT):
            same(found, expected)


@given(batches(), seeds, factors, factors)
def test_adding_subtracting_and_averaging_two_are_the_plain_sums(first, seed, a, b):
    second = tokens(*first.full.shape, seed, first.full.dtype)
    one, other = ImageTokens(first), ImageTokens(second)
    assume(a and b)
    room = 16 * torch.finfo(first.full.dtype).eps * (1 + 5 * (abs(a) + abs(b)))
    sums = {ADD: (a, b), SUBTRACT: (a, -b)}
    if abs(a + b) > 0.5:
        sums[AVERAGE] = (a / (a + b), b / (a + b))
    for method, (x, y) in sums.items():
        found = combine_two(one, other, method, (a, b)).branches
        for branch in Branch:
            expected = x * first[branch].double() + y * second[branch].double()
            torch.testing.assert_close(found[branch].double(), expected, rtol=room, atol=room)


@given(st.lists(st.tuples(st.integers(1, 4), factors), min_size=1, max_size=4), seeds)
def test_concatenating_in_steps_is_concatenating_at_once(sizes, seed):
    sets = [(ImageTokens(tokens(1, count, 3, seed + n)), weight) for n, (count, weight) in enumerate(sizes)]
    assume(any(weight for _, weight in sets))
    first = next(n for n, (_, weight) in enumerate(sets) if weight)
    stepwise = concatenate(sets[: first + 1])
    for one in sets[first + 1 :]:
        stepwise = concatenate([(stepwise, 1.0), one])
    same(stepwise, concatenate(sets))


@given(st.lists(factors, max_size=5), st.lists(factors, max_size=5), st.integers(0, 60))
def test_two_cycles_of_factors_multiply_at_every_latent(first, second, latent):
    found = product_of_cycles(first, second)

    def at(own) -> float:
        return own[latent % len(own)] if own else 1.0

    assert at(found) == at(first) * at(second)
    assert bool(found) == bool(first or second)
