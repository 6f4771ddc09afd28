"""Laws of making one set of image tokens out of several. Bit for bit unless a tolerance is given."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.guidance.branches import Branch, Branches
from ipadapter_instruct.models.messages import LONGEST_LIST
from ipadapter_instruct.models.reference.combining import (
    ADD,
    AVERAGE,
    CONCAT,
    LONGEST_CYCLE,
    METHODS,
    MODES,
    PER_INDEX,
    SUBTRACT,
    ImageTokens,
    check_weights,
    combine_references,
    combine_two,
    concatenate,
    latent_weights,
    parse_numbers,
    product_of_cycles,
)

T, D = 3, 5


def tokens(references: int = 1, seed: int = 1) -> Branches:
    """[references, T, D] for each branch, different everywhere."""
    made = torch.Generator().manual_seed(seed)
    return Branches(*(torch.randn(references, T, D, generator=made) for _ in Branch))


def of(references: int = 1, seed: int = 1, weights: torch.Tensor | None = None) -> ImageTokens:
    return ImageTokens(tokens(references, seed), weights)


def same_branches(found: Branches, expected: Branches) -> None:
    for branch, values in expected.items():
        torch.testing.assert_close(found[branch], values, rtol=0, atol=0)


def same(found: ImageTokens, expected: ImageTokens) -> None:
    same_branches(found.branches, expected.branches)
    assert (found.weights is None) == (expected.weights is None)
    if expected.weights is not None:
        torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=0)


# Numbers that a user types


@pytest.mark.parametrize("text", ["1, 0.5, -2", "1 0.5 -2", "1;0.5;-2", " 1,0.5 ; -2, ", "1\n0.5\n-2"])
def test_numbers_stand_between_commas_semicolons_or_spaces(text):
    assert parse_numbers(text, "weights") == (1.0, 0.5, -2.0)


@pytest.mark.parametrize("text", ["", "  ", ",", "\n"])
def test_an_empty_text_holds_no_numbers(text):
    assert parse_numbers(text, "weights") == ()


@pytest.mark.parametrize("text", ["1, two", "nan", "1, inf", "-inf", "1.2.3", "0.5x"])
def test_what_is_no_finite_number_is_refused_by_the_inputs_name(text):
    with pytest.raises(ValueError, match="^batch_factors was expected to be numbers such as 1.* clear it") as caught:
        parse_numbers(text, "batch_factors")
    assert repr(text) in str(caught.value)


def test_a_list_too_long_to_be_meant_is_refused_by_the_inputs_name():
    with pytest.raises(ValueError, match="^batch_factors was expected to hold at most"):
        parse_numbers("1" * (LONGEST_LIST + 1), "batch_factors")


@pytest.mark.parametrize("weights", [(), (1.0, 2.0), (0.0, 2.0), (-1.0, 1.0)])
def test_no_weights_or_one_for_each_picture_are_right(weights):
    check_weights(weights, 2, "the references' weights")


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0)])
def test_another_number_of_weights_is_refused(weights):
    message = (
        f"^One number for each of the 2 .*expected in the references' weights.*there are {len(weights)}. Add or remove"
    )
    with pytest.raises(ValueError, match=message):
        check_weights(weights, 2, "the references' weights")


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_nothing_but_0_are_refused(mode):
    with pytest.raises(
        ValueError, match="^A number other than 0 was expected in the references' weights; all are 0. Raise one"
    ):
        check_weights((0.0, 0.0), 2, "the references' weights", mode)


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.1, 0.2, -0.3), (1e-7, 2e-7, -3e-7)])
def test_weights_that_cancel_out_cannot_be_averaged(weights):
    with pytest.raises(
        ValueError, match="^To average, a sum other than 0 was expected of the references' weights: .*Change one"
    ):
        check_weights(weights, len(weights), "the references' weights", AVERAGE)
    check_weights(weights, len(weights), "the references' weights", CONCAT)


def test_small_weights_can_be_averaged():
    check_weights((1e-6, 2e-6), 2, "the references' weights", AVERAGE)


# References of one batch


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weights", [(), (1.0,)])
def test_one_reference_is_itself_in_every_mode(mode, weights):
    same(combine_references(tokens(), mode, weights), of())


def test_one_reference_averaged_with_a_weight_is_itself():
    same(combine_references(tokens(), AVERAGE, (0.3,)), of())


def test_weights_that_do_not_fit_the_references_are_refused_by_the_inputs_name():
    for weights in ((1.0,), (1.0, 1.0, 1.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="umber .*was expected in the references' weights"):
            combine_references(tokens(2), weights=weights)
    with pytest.raises(ValueError, match="^To average, a sum other than 0 was expected of the references' weights"):
        combine_references(tokens(2), AVERAGE, (1.0, -1.0))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="^mode was expected to be one of concat.*average.*one per batch index.*'sum'"):
        combine_references(tokens(), "sum")


def test_tokens_that_are_concatenated_keep_the_references_order():
    given = tokens(3)
    expected = given.map(lambda x: torch.cat([x[0], x[1], x[2]])[None])
    same(combine_references(given, CONCAT), ImageTokens(expected))


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_1_are_no_weights(mode):
    without = combine_references(tokens(3), mode)
    same(combine_references(tokens(3), mode, (1.0, 1.0, 1.0)), without)
    assert without.weights is None


def test_each_reference_has_its_weight_on_all_its_tokens():
    found = combine_references(tokens(2), CONCAT, (0.5, 2.0))
    assert found.weights.tolist() == [[0.5] * T + [2.0] * T]
    same_branches(found.branches, combine_references(tokens(2), CONCAT).branches)


@pytest.mark.parametrize("mode", [CONCAT, AVERAGE])
def test_a_reference_of_weight_0_is_left_out(mode):
    given = tokens(3)
    others = given.map(lambda x: x[[0, 2]])
    found = combine_references(given, mode, (1.0, 0.0, 0.5))
    same(found, combine_references(others, mode, (1.0, 0.5)))


def test_the_average_is_the_weighted_mean():
    given = tokens(2)
    found = combine_references(given, AVERAGE, (1.0, 3.0))
    assert found.weights is None
    for branch, values in given.items():
        torch.testing.assert_close(found.branches[branch], (0.25 * values[0] + 0.75 * values[1])[None])


@pytest.mark.parametrize("references", [2, 3, 7])
def test_the_average_of_equal_tokens_is_each_of_them(references):
    given = tokens()
    found = combine_references(given.map(lambda x: x.expand(references, -1, -1)), AVERAGE)
    for branch, values in given.items():
        torch.testing.assert_close(found.branches[branch], values)


def test_each_latent_gets_its_reference_and_its_weight():
    found = combine_references(tokens(3), PER_INDEX, (1.0, 0.0, 0.5))
    same_branches(found.branches, tokens(3))
    assert found.weights.tolist() == [[1.0] * T, [0.0] * T, [0.5] * T]


@pytest.mark.parametrize("weights", [(), (0.3, 0.7)])
@pytest.mark.parametrize("mode", MODES)
def test_combining_changes_no_dtype_and_not_what_it_was_given(mode, weights):
    given = tokens(2).map(torch.Tensor.half)
    before = given.map(torch.clone)
    assert combine_references(given, mode, weights).branches.full.dtype == torch.float16
    same_branches(given, before)


# Weights of whole latents


def test_weights_alike_on_a_latents_tokens_are_the_latents_own():
    weights = torch.tensor([[0.5] * T, [0.0] * T])
    left, own = latent_weights(of(2, weights=weights))
    same(left, of(2))
    assert own == (0.5, 0.0)
    single = ImageTokens(tokens(2).map(lambda x: x[:, :1]), torch.tensor([[0.5], [0.0]]))
    assert latent_weights(single)[1] == (0.5, 0.0)


def test_weights_that_differ_within_a_latent_stay_on_the_tokens():
    weights = torch.tensor([[0.5] * T, [0.5, 0.5, 1.0]])
    left, own = latent_weights(of(2, weights=weights))
    same(left, of(2, weights=weights))
    assert own == ()


def test_without_weights_there_are_none_of_the_latents():
    left, own = latent_weights(of(2))
    same(left, of(2))
    assert own == ()


@pytest.mark.parametrize("first, second, expected", [((), (), ()), ((2.0,), (), (2.0,)), ((), (3.0, 1.0), (3.0, 1.0))])
def test_no_factors_leave_the_others(first, second, expected):
    assert product_of_cycles(first, second) == expected


def test_a_product_may_be_as_long_as_the_limit():
    assert product_of_cycles([1.0] * LONGEST_CYCLE, [2.0]) == (2.0,) * LONGEST_CYCLE
    with pytest.raises(ValueError, match=f"within {LONGEST_CYCLE:,} pictures; of {LONGEST_CYCLE + 1:,} and 1 weights"):
        product_of_cycles([1.0] * (LONGEST_CYCLE + 1), [2.0])


@pytest.mark.parametrize("lengths", [(1, 1), (1, 4), (2, 3), (4, 6), (5, 5)])
def test_each_factor_of_a_product_is_that_of_both_cycles(lengths):
    first, second = ([float(number + 2) for number in range(length)] for length in lengths)
    found = product_of_cycles(first, second)
    for latent in range(40):
        expected = first[latent % len(first)] * second[latent % len(second)]
        assert found[latent % len(found)] == expected


# Two sets


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
