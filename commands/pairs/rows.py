"""Each pair that is to be made: of which pictures, by which words, with which seed, and whether it is held out.

Everything is drawn by digests of names: neither the order nor the number of pictures changes what becomes of one, but
for the few beside which a new one comes to stand.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ...models.guidance.tasks import KNOWN, check_apart
from ..servers.jobs import digest
from ..servers.places import Places
from . import recipes
from .recipes import OTHER, Recipe
from .sources import Source, Sources

LONGEST_SEED = 12  # hexadecimal digits, which every sampler takes


@dataclass(frozen=True)
class Wish:
    """The pairs that a user wants. per_picture: of one reference. held_out: in all. prompts: for new pictures."""

    per_picture: int = 1
    held_out: int = 0
    seed: int = 0
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A pair to make. number: among those of its reference. caption: of the target; "" where a workflow gives it.

    target: where it is another picture. runs: whether a workflow runs for it.
    """

    source: Source
    number: int
    seed: int
    caption: str
    target: Source | None = None
    instruction: str = ""
    runs: bool = False
    held_out: bool = False

    @property
    def place(self) -> str:
        return self.source.place

    def values(self, recipe: Recipe) -> dict[str, object]:
        """Return the values of a workflow's places, but for those that are files."""
        texts = {recipes.CAPTION: self.source.caption, recipes.PROMPT: self.caption, recipes.OBJECT: self.source.object}
        return {**{place: text for place, text in texts.items() if text}, recipes.SEED: self.seed, **recipe.values}

    def files(self) -> dict[str, str]:
        """Return the names of the files that a workflow's places may take."""
        second = self.target.picture if self.target else ""
        names = {recipes.PICTURE: self.source.picture, recipes.SECOND: second}
        names |= {recipes.MASK: self.source.mask, recipes.POSE: self.source.pose}
        return {place: name for place, name in names.items() if name}


class Ring:
    """Things on a circle, at places that their names draw: where one comes in or goes, only its neighbours notice."""

    def __init__(self, things: Mapping[str, object]):
        self.things = sorted((drawn("ring", name), name, thing) for name, thing in things.items())
        self.places = [place for place, *_ in self.things]

    def after(self, place: int) -> Iterator:
        """Yield all things, from a place on the circle on."""
        start = bisect(self.places, place)
        for number in range(len(self.things)):
            yield self.things[(start + number) % len(self.things)][2]


def drawn(*of: object) -> int:
    """Return a number that is drawn by values: always the same one."""
    return int(digest(*of)[:LONGEST_SEED], 16)


def rows_of(recipe: Recipe, sources: Sources, wish: Wish, places: Places | None) -> list[Row]:
    """Return the rows of all pictures. places: the workflow's, where there is one.

    Raises ValueError that names every picture of which no pair can be made.
    """
    captioned = bool(places and recipes.CAPTION in places.outputs)
    needs = [name for name in recipe.needs if not (captioned and name == "caption")]
    refuse([(one, problem_with(recipe.task, needs, one)) for one in sources.all])
    if recipe.task == "face":
        rows = list(face_rows(sources.all, wish, places))
    else:
        words = other_words(sources.all, wish.prompts) if recipe.words == OTHER else own_words
        numbers = range(wish.per_picture)
        rows = [row_of(recipe, one, number, wish.seed, words) for one in sources.all for number in numbers]
        rows = [replace(row, runs=places is not None) for row in rows]
    refuse([(row.source, values_missing(recipe, row, places)) for row in rows])
    return held_out(rows, recipe, wish.held_out)


def refuse(problems: Sequence[tuple[Source, str]]) -> None:
    wrong = [f"{source.place}: {problem}" for source, problem in problems if problem]
    if wrong:
        raise ValueError("\n".join([f"{len(wrong)} pictures cannot be used; nothing was run.", *wrong]))


def problem_with(task: str, needs: Sequence[str], source: Source) -> str:
    """Return what a picture lacks, in words; "" for nothing."""
    missing = [name for name in needs if not getattr(source, name)]
    if missing:
        return f"{' and '.join(missing)} expected for the task {task}; there is none."
    if task == "object":
        try:
            check_apart({**dict.fromkeys(KNOWN, ()), task: [named(source.object)]})
        except ValueError as error:
            return str(error)
    return ""


def values_missing(recipe: Recipe, row: Row, places: Places | None) -> str:
    """Return the places of the workflow for which a row has no value, in words."""
    if not (places and row.runs):
        return ""
    missing = places.inputs.keys() - row.values(recipe).keys() - row.files().keys()
    return f"{' and '.join(sorted(missing)).lower()} expected, as the workflow says; there is none." if missing else ""


def named(thing: str) -> str:
    """Return the instruction for an object, in which its name stands for the word.

    Source: arXiv 2408.03209 section 4.
    """
    return f"use the {thing.strip()}"


def own_words(source: Source, number: int, seed: int) -> str:
    return source.prompt or source.caption


def other_words(sources: Sequence[Source], prompts: Sequence[str]) -> Callable[[Source, int, int], str]:
    """Return a function of a picture and the pair's number: its prompt, or one of these, or another one's caption."""
    ring = Ring({text: text for text in prompts or (one.caption for one in sources) if text})

    def words(source: Source, number: int, seed: int) -> str:
        texts = (text for text in ring.after(drawn(seed, source.picture)) if text != source.caption)
        found = source.prompt or next(islice(texts, number, None), "")
        if not found:
            raise ValueError(
                f"{source.place}: words for {number + 1} new pictures were expected; there are {number}. Give more "
                "--prompts, a prompt for the picture, or more captions."
            )
        return found

    return words


def row_of(recipe: Recipe, source: Source, number: int, seed: int, words: Callable[[Source, int, int], str]) -> Row:
    instruction = named(source.object) if recipe.task == "object" else ""
    place = drawn(seed, source.picture, source.object, number)
    return Row(source, number, place, words(source, number, seed), instruction=instruction)


def face_rows(sources: Sequence[Source], wish: Wish, places: Places | None) -> Iterator[Row]:
    """Yield pairs of two pictures of one identity.

    Half of the references are zoomed on the face, as far as they have the mask that the workflow asks for.
    """
    people = defaultdict(dict)
    for one in sources:
        people[one.identity][one.picture] = one
    rings = {identity: Ring(pictures) for identity, pictures in people.items() if len(pictures) > 1}
    if not rings:
        raise ValueError("Two pictures or more of one identity were expected; there is none that has them.")
    for one in (one for one in sources if one.identity in rings):
        others = (other for other in rings[one.identity].after(drawn(wish.seed, one.picture)) if other != one)
        for number, partner in enumerate(islice(others, wish.per_picture)):
            seed = drawn(wish.seed, one.picture, number)
            can_zoom = places is not None and (one.mask or recipes.MASK not in places.inputs)
            yield Row(one, number, seed, partner.caption, partner, runs=bool(can_zoom) and seed % 2 == 0)


def held_out(rows: list[Row], recipe: Recipe, count: int) -> list[Row]:
    """Return the rows, of which `count` or a few more are held out: all those of some references, or of some people.

    They are the same references for every task.
    """
    units = defaultdict(list)
    for row in rows:
        units[row.source.identity if recipe.task == "face" else row.source.picture].append(row)
    chosen, number = set(), 0
    for unit in sorted(units, key=lambda unit: drawn("held out", unit)):
        if number >= count:
            break
        chosen.add(unit)
        number += len(units[unit])
    if len(chosen) == len(units):
        raise ValueError(
            f"More than {count} pairs were expected, so that some are left to train on; there are {number}."
        )
    out = {id(row) for unit in chosen for row in units[unit]}
    return [replace(row, held_out=id(row) in out) for row in rows]
