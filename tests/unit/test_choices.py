"""Checks of what a user types or links, at their edges."""

from __future__ import annotations

import pytest
from ipadapter_instruct.models.messages import (
    LETTERS_SHOWN,
    LONGEST_LIST,
    check_length,
    check_letters,
    check_numbers,
    shown,
    some,
)

INFINITE = float("inf")


def test_a_number_that_no_float_can_hold_is_refused_in_words():
    with pytest.raises(ValueError, match="weight was expected to be a number from 0 to 3; it is larger than any such"):
        check_numbers(0, 3, weight=10**400)


@pytest.mark.parametrize(
    "low, high, said",
    [(0.0, 1.0, "a number from 0 to 1"), (-INFINITE, 1.0, "a finite number"), (0.0, INFINITE, "a finite number")],
    ids=["both", "no low one", "no high one"],
)
def test_the_range_is_said_where_it_has_two_ends(low, high, said):
    with pytest.raises(ValueError, match=f"weight was expected to be {said}; it is nan"):
        check_numbers(low, high, weight=float("nan"))


def test_both_ends_of_a_range_are_in_it():
    check_numbers(0, 1, first=0, last=1)


def test_a_list_may_be_as_long_as_the_limit():
    check_length("weights", "1" * LONGEST_LIST)
    with pytest.raises(ValueError, match=f"weights was expected to hold at most {LONGEST_LIST:,} letters; it holds"):
        check_length("weights", "1" * (LONGEST_LIST + 1))


@pytest.mark.parametrize("half", ["\ud83d", "\udc31", "\ud83d\ud83d"], ids=["first half", "second half", "two"])
def test_half_an_emoji_is_named_with_its_place_and_what_stands_around_it(half):
    with pytest.raises(ValueError, match=r"prompt was expected .* letter 203 is half of one, in 'a{18}: ") as caught:
        check_letters("prompt", "a" * 200 + ": "[:2] + half + "b" * 200)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_whole_characters_of_any_kind_are_left_alone():
    check_letters("prompt", "a \U0001f431, \u00e9\n\x00 \u732b \U000e0001")


def test_a_text_as_long_as_is_shown_is_shown_whole():
    assert shown("a" * LETTERS_SHOWN) == repr("a" * LETTERS_SHOWN)
    assert shown("a" * (LETTERS_SHOWN + 1)).endswith(f"({LETTERS_SHOWN + 1} letters)")


def test_names_are_counted_only_when_some_are_left_out():
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c"], 2, prefix="x.") == "x.a, x.b and 1 more"
