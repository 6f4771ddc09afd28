"""Checks of what a user chooses or types, and of numbers that came by a link, which ComfyUI lets through."""

import difflib
import math
import re
from collections.abc import Sequence
from pathlib import PureWindowsPath

PRECISIONS = ("fp16", "bf16")
LONGEST_LIST = 100_000  # letters of a list that is typed: some 20,000 numbers
LETTERS_SHOWN = 200
SHORT = 120  # letters
ALIKE = 3  # names
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
AROUND = 20  # letters shown on either side of a fault


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `choices`. ComfyUI 0.3.75 does not check V3 combos itself."""
    if value not in choices:
        raise ValueError(
            f"{name} was expected to be one of {', '.join(choices)}; it is {shown(value)}. Choose one of them."
        )


def check_length(name: str, text: str) -> None:
    """Raises ValueError for a list that is too long to be meant, before anything is made of it."""
    if len(text) > LONGEST_LIST:
        raise ValueError(
            f"{name} was expected to hold at most {LONGEST_LIST:,} letters; it holds {len(text):,}. Shorten it: fewer "
            "entries, with fewer digits."
        )


def check_letters(name: str, text: str) -> None:
    """Raises ValueError for a text with half a character, which no tokenizer reads and no file holds."""
    half = HALF_CHARACTER.search(text)
    if half:
        place = half.start()
        around = text[max(place - AROUND, 0) : place + AROUND]
        raise ValueError(
            f"{name} was expected to be made of whole characters; letter {place + 1} is half of one, in {around!r}: "
            "half an emoji, as cutting a text may leave it. Delete it, or type the emoji again."
        )


def check_numbers(low: float = -math.inf, high: float = math.inf, **numbers: float) -> None:
    """Raises ValueError unless each is a number in this range, its ends included, and finite."""
    for name, number in numbers.items():
        try:
            given, right = f"{number:g}", math.isfinite(number) and low <= number <= high
        except OverflowError:  # a whole number that no float can hold
            given, right = "larger than any such number", False
        if not right:
            span = "a finite number" if math.inf in (-low, high) else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{name} was expected to be {span}; it is {given}. Correct it, or the node it is from.")


def called_alike(name: object, names: Sequence[str]) -> str:
    """Return a sentence on those of `names` that are like `name`, in whatever folder and format; "" without any."""
    if not isinstance(name, str) or len(name) > LETTERS_SHOWN:
        return ""
    stems = {one: _stem(one) for one in names}
    close = difflib.get_close_matches(_stem(name), dict.fromkeys(stems.values()), ALIKE)
    found = [one for stem in close for one in names if stems[one] == stem]
    return f"Similar names there: {', '.join(found[:ALIKE])}. " if found else ""


def _stem(name: str) -> str:
    return PureWindowsPath(name.lower()).stem  # which knows either separator


def shown(value: object) -> str:
    """Return a value as a message repeats it: its beginning, where it is long."""
    if isinstance(value, str) and len(value) > LETTERS_SHOWN:
        return f"{value[:LETTERS_SHOWN]!r}... ({len(value):,} letters)"
    return repr(value)


def some(names: Sequence[str], limit: int, prefix: str = "") -> str:
    """Name the first of `names`, for a message, and say how many more there are."""
    shown = ", ".join(prefix + short(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def short(words: object) -> str:
    """Return what a file says, for a message: not too long, and without what a terminal or a page would act on."""
    shown = str(words)
    shown = shown if len(shown) <= SHORT else f"{shown[:SHORT]}..."
    return shown if shown.isprintable() and shown else ascii(shown)
