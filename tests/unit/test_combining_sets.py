"""Laws of making one set of image tokens out of two. Bit for bit unless a tolerance is given."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import (
    ADD,
    AVERAGE,
    CONCAT,
    METHODS,
    SUBTRACT,
    ImageTokens,
    combine_references,
    combine_two,
    concatenate,
)
from ipadapter_instruct.models.guidance.branches import Branch, Branches
from support.tensors.token_sets import T, of, same, same_branches, tokens


def test_two_sets_concatenated_are_their_tokens_in_order():
    first, second = of(seed=1), of(seed=2)
    found = combine_two(first, second, CONCAT, (1.0, 1.0))
    expected = {b.value: torch.cat([first.branches[b], second.branches[b]], dim=1) for b in Branch}
    same(found, ImageTokens(Branches(**expected)))


def test_weights_of_sets_multiply_those_on_their_tokens():
    first, second = of(weights=torch.tensor([[1.0, 2.0, 3.0]])), of(seed=2)
    found = combine_two(first, second, CONCAT, (0.5, 3.0))
    assert found.weights.tolist() == [[0.5, 1.0, 1.5, 3.0, 3.0, 3.0]]


@pytest.mark.parametrize("method", [CONCAT, AVERAGE, ADD])
def test_a_set_of_weight_0_leaves_the_other_as_it_is(method):
    first, second = of(seed=1), of(seed=2)
    same(combine_two(first, second, method, (1.0, 0.0)), first)
    same(combine_two(first, second, method, (0.0, 1.0)), second)


def test_nothing_subtracted_leaves_the_first_set_as_it_is():
    same(combine_two(of(), of(seed=2), SUBTRACT, (1.0, 0.0)), of())


@pytest.mark.parametrize("method", METHODS)
def test_a_set_of_weight_0_need_not_fit_the_other(method):
    first = of(2)
    same(combine_two(first, combine_references(tokens(4, 2)), method, (1.0, 0.0)), first)
    same(combine_two(first, of(3, seed=2), method, (1.0, 0.0)), first)


@pytest.mark.parametrize(
    "method, a, b", [(AVERAGE, 0.8, 0.2), (ADD, 2.0, 0.5), (SUBTRACT, 2.0, -0.5)], ids=[AVERAGE, ADD, SUBTRACT]
)
def test_two_sets_are_averaged_added_and_subtracted_by_their_weights(method, a, b):
    first, second = of(seed=1), of(seed=2)
    found = combine_two(first, second, method, (2.0, 0.5))
    assert found.weights is None
    for branch in Branch:
        expected = a * first.branches[branch] + b * second.branches[branch]
        torch.testing.assert_close(found.branches[branch], expected)


def test_a_set_minus_itself_is_nothing_and_plus_itself_is_double():
    same_branches(combine_two(of(), of(), SUBTRACT, (1.0, 1.0)).branches, tokens().map(torch.zeros_like))
    same_branches(combine_two(of(), of(), ADD, (1.0, 1.0)).branches, tokens().map(lambda x: 2 * x))


def test_added_sets_keep_the_weights_that_both_have():
    weights = torch.tensor([[1.0, 2.0, 3.0]])
    found = combine_two(of(weights=weights), of(seed=2, weights=weights.clone()), ADD, (1.0, 1.0))
    torch.testing.assert_close(found.weights, weights)


@pytest.mark.parametrize("method", METHODS)
def test_a_set_for_all_latents_joins_one_with_tokens_for_each(method):
    each, shared = of(3, weights=torch.ones(3, T)), of(seed=2)
    repeated = ImageTokens(shared.branches.map(lambda x: torch.cat([x] * 3)))
    same(combine_two(each, shared, method, (1.0, 0.5)), combine_two(each, repeated, method, (1.0, 0.5)))
    same(combine_two(shared, each, method, (1.0, 0.5)), combine_two(repeated, each, method, (1.0, 0.5)))


def test_weights_of_a_set_for_all_latents_are_repeated_too():
    shared = of(weights=torch.tensor([[1.0, 2.0, 3.0]]))
    found = combine_two(of(2), shared, CONCAT, (1.0, 0.5))
    assert found.weights.tolist() == [[1.0, 1.0, 1.0, 0.5, 1.0, 1.5]] * 2


@pytest.mark.parametrize("method", METHODS)
def test_sets_for_other_numbers_of_latents_are_refused(method):
    for first, second in ((2, 3), (3, 2), (4, 2)):
        said = f"for as many latents were expected.* for {first} and {second}. Encode as many pictures"
        with pytest.raises(ValueError, match=said):
            combine_two(of(first), of(second), method, (1.0, 1.0))


@pytest.mark.parametrize("method", [AVERAGE, ADD, SUBTRACT])
def test_sets_that_differ_in_tokens_or_their_weights_can_only_be_concatenated(method):
    longer = combine_references(tokens(2, 2))
    weighted = of(seed=2, weights=torch.tensor([[1.0, 2.0, 3.0]]))
    for other, number in ((longer, 2 * T), (weighted, T)):
        with pytest.raises(ValueError, match=f"For {method}.*they have {T} and {number} tokens.*choose concat"):
            combine_two(of(), other, method, (1.0, 1.0))
        combine_two(of(), other, CONCAT, (1.0, 1.0))


@pytest.mark.parametrize("method", METHODS)
def test_sets_on_two_devices_come_together_on_the_firsts(method):
    elsewhere = ImageTokens(tokens().map(lambda x: x.to("meta")))
    found = combine_two(elsewhere, of(seed=2), method, (1.0, 0.5))
    assert {values.device.type for _, values in found.branches.items()} == {"meta"}


def test_two_sets_need_a_known_method_and_a_weight_other_than_0():
    with pytest.raises(
        ValueError, match="^method was expected to be one of concat, average, add, subtract; it is 'multiply'"
    ):
        combine_two(of(), of(), "multiply", (1.0, 1.0))
    with pytest.raises(ValueError, match="A number other than 0 was expected in weight_1 and weight_2"):
        combine_two(of(), of(), CONCAT, (0.0, 0.0))
    with pytest.raises(ValueError, match="To average, a sum other than 0 was expected of weight_1 and weight_2"):
        combine_two(of(), of(), AVERAGE, (1.0, -1.0))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_each_of_two_weights_that_is_no_number_is_refused_by_its_name(method, number):
    for name, weights in (("weight_1", (number, 1.0)), ("weight_2", (1.0, number))):
        with pytest.raises(ValueError, match=f"^{name} was expected to be a finite number; it is {number}"):
            combine_two(of(), of(seed=2), method, weights)


@pytest.mark.parametrize("weights", list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
def test_many_sets_are_concatenated_as_two_by_two(weights):
    sets = [(of(seed=seed), weight) for seed, weight in enumerate(weights)]
    if not any(weights):
        return
    found = concatenate(sets)
    kept = [one for one in sets if one[1]]
    expected = concatenate(kept[:1])
    for tokens_of_one, weight in kept[1:]:
        expected = combine_two(expected, tokens_of_one, CONCAT, (1.0, weight))
    same(found, expected)
    assert found.branches.full.shape[1] == T * len(kept)


def test_references_of_a_batch_with_weights_are_sets_with_these_weights():
    weights = (0.5, 0.0, -1.5)
    apart = [(ImageTokens(tokens(3).map(lambda x, n=number: x[n : n + 1])), w) for number, w in enumerate(weights)]
    same(combine_references(tokens(3), CONCAT, weights), concatenate(apart))
