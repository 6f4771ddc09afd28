"""Laws of making one set of image tokens out of several. Bit for bit unless a tolerance is given."""

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import (
    AVERAGE,
    CONCAT,
    LONGEST_CYCLE,
    MODES,
    PER_INDEX,
    ImageTokens,
    check_weights,
    combine_references,
    latent_weights,
    parse_numbers,
    product_of_cycles,
)
from ipadapter_instruct.models.messages import LONGEST_LIST
from support.tensors.token_sets import T, of, same, same_branches, tokens

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
