"""The settings that a grid varies, its cells, and how many passes of the model they take. Nothing is computed here."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields, replace

from ...models.encoding.combining import parse_numbers
from ...models.families import FAMILIES, Family
from ...models.guidance.branches import count_passes
from ...models.guidance.tasks import AUTO, SIMPLE, THREE_WAY, advise
from ...models.messages import check_choice, check_length, check_letters, shown

NOTHING = "nothing"
GUIDANCES = (AUTO, SIMPLE, THREE_WAY)
NUMBERS = {  # from, to
    "weight": (-1.0, 3.0),
    "instruct_guidance": (0.0, 30.0),
    "image_guidance": (0.0, 30.0),
    "cfg": (0.0, 100.0),
}
SEEDS = (0, 2**64 - 1)
MOST_CELLS = 100


@dataclass(frozen=True)
class Cell:
    instruction: str
    weight: float
    guidance: str
    instruct_guidance: float
    image_guidance: float
    cfg: float
    seed: int


VARIED = tuple(setting.name for setting in fields(Cell))


@dataclass(frozen=True)
class Axis:
    """The setting that varies along rows or columns, each change of it, and a label for each. Without a name: none."""

    name: str | None = None
    changes: tuple[dict, ...] = ({},)
    labels: tuple[str, ...] = ()


def axis(name: str, what: str, text: str) -> Axis:
    """Return the axis that the input `name`, "rows" or "columns", asks for, with its values as they are typed.

    Raises ValueError, which names the input.
    """
    check_choice(name, what, (NOTHING, *VARIED))
    if what == NOTHING:
        return Axis()
    of_input = f"{name[:-1]}_values"
    check_length(of_input, text)
    check_letters(of_input, text)
    values = _read(what, text, of_input)
    if not values:
        raise ValueError(
            f"{of_input} was expected to hold values for {what}, one a line; it is empty. Write some, or set {name} "
            f"to {NOTHING}."
        )
    return Axis(what, tuple({what: value} for value in values), tuple(_label(what, value) for value in values))


def cells_of(rows: Axis, columns: Axis, cell: Cell) -> list[Cell]:
    """Return every cell, row by row; what no axis varies is as in `cell`.

    Raises ValueError when both vary the same, or there are too many cells.
    """
    if rows.name is not None and rows.name == columns.name:
        raise ValueError(
            f"rows and columns were expected to vary two things; both are {rows.name}. Choose another for one of "
            f"them, or {NOTHING}, with all its values in the other."
        )
    count = len(rows.changes) * len(columns.changes)
    if count > MOST_CELLS:
        raise ValueError(
            f"At most {MOST_CELLS} pictures were expected; row_values and column_values ask for {len(rows.changes)} x "
            f"{len(columns.changes)} = {count}. Write fewer values, or make two grids."
        )
    return [replace(cell, **row, **column) for row in rows.changes for column in columns.changes]


def passes(cells: Collection[Cell], steps: int) -> tuple[int, int]:
    """Return the fewest and the most passes of the model that all cells take, over the families that it may be of.

    A step counts once, as with samplers of the first order.
    """
    in_all = [steps * sum(_passes_a_step(cell, family) for cell in cells) for family in FAMILIES]
    return min(in_all), max(in_all)


def _passes_a_step(cell: Cell, family: Family) -> int:
    alone = cell.cfg == 1  # ComfyUI leaves the negative out: its 0.3.75, comfy/samplers.py, sampling_function
    guidance = cell.guidance
    if guidance == AUTO:
        guidance = SIMPLE if alone else advise(family, cell.instruction).guidance
    if guidance == SIMPLE or not cell.weight:
        return 1 if alone else 2
    return count_passes(cell.instruct_guidance, cell.image_guidance, cell.cfg)


def _read(what: str, text: str, of_input: str) -> tuple:
    if what == "instruction":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    if what in NUMBERS:
        return _numbers(what, text, of_input)
    words = tuple(re.findall(r"[^,;\s]+", text))
    for word in words:
        if what == "guidance":
            check_choice(of_input, word, GUIDANCES)
        elif not _is_seed(word):
            raise ValueError(
                f"{of_input} was expected to hold seeds, whole numbers from 0 such as 1, 2, 3; one is {shown(word)}. "
                "Correct it."
            )
    return words if what == "guidance" else tuple(map(int, words))


def _numbers(what: str, text: str, of_input: str) -> tuple[float, ...]:
    numbers = parse_numbers(text, of_input)
    low, high = NUMBERS[what]
    for number in numbers:
        if not low <= number <= high:
            raise ValueError(
                f"{of_input} was expected to hold values for {what} from {low:g} to {high:g}; one is {number:g}. "
                "Correct it."
            )
    return numbers


def _is_seed(word: str) -> bool:
    short = len(word) <= len(str(SEEDS[1]))  # Python refuses to read thousands of digits
    return short and word.isascii() and word.isdigit() and int(word) <= SEEDS[1]


def _label(what: str, value) -> str:
    if isinstance(value, str):
        return value
    return f"{what.replace('_', ' ')} {value if isinstance(value, int) else format(value, 'g')}"
