"""Scenes in words: every attribute may be left out, and words and their order vary."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace

from drawn_world.pictures.scenes import BIG_PLACES, NATURAL, Scene
from drawn_world.words.senses import Said, Sense, words_for

TOLD = ("concepts", "style", "tint", "size", "places", "ground")  # what a caption may tell
SHARE_EMPTY, SHARE_FULL, SHARE_KEPT = 0.08, 0.55, 0.75
SHARE_TINT_TOLD, SHARE_SIZE_TOLD = 0.95, 0.3
MOST_WORDS = 15
NAMELESS = ("thing", "something", "drawing", "one")
Choose = Callable[[Sense], str]


def random_told(drawn: random.Random) -> list[str]:
    """Which attributes a caption tells."""
    lot = drawn.random()
    if lot < SHARE_EMPTY:
        return []
    kept = 1.0 if lot < SHARE_EMPTY + SHARE_FULL else SHARE_KEPT
    shares = {"tint": SHARE_TINT_TOLD, "size": SHARE_SIZE_TOLD}
    return [name for name in TOLD if drawn.random() < shares.get(name, kept)]


def random_caption(scene: Scene, told: Collection[str], drawn: random.Random) -> list[Said]:
    """A caption that tells the attributes in `told`, in any of their words."""
    if not told:
        return []
    return caption(scene, told, drawn, lambda sense: any_word(sense, drawn))


def plain_caption(scene: Scene, told: Collection[str] = TOLD) -> str:
    """The plainest caption that tells the attributes in `told`; never the size, which places tell."""
    plain = {name: lambda value, name=name: words_for((name, value))[0] for name in ("concept", "place")}
    things = [
        " ".join(plain[name](value) for name, value in (("concept", concept), ("place", place)) if f"{name}s" in told)
        for concept, place in zip(scene.concepts, scene.places, strict=True)
    ]
    style = scene.style if "style" in told else ""
    tint = scene.tint if "tint" in told and scene.tint != NATURAL else ""
    ground = f"on {scene.ground}" if "ground" in told else ""
    return " ".join(part for part in (style, tint, " and ".join(filter(None, things)), ground) if part)


def any_word(sense: Sense, drawn: random.Random) -> str:
    """The plain word in half of the cases."""
    words = words_for(sense)
    return words[0] if drawn.random() < 0.5 else drawn.choice(words)


def caption(scene: Scene, told: Collection[str], drawn: random.Random, choose: Choose) -> list[Said]:
    things = [thing(scene, number, told, drawn, choose) for number in range(len(scene.concepts))]
    parts = [part for one in joined(things, drawn) for part in one]
    style = [Said(choose(("style", scene.style)), ("style", scene.style))] if "style" in told else []
    ground = ground_words(scene, drawn, choose) if "ground" in told else []
    if style and drawn.random() < 0.3:
        style = [*style, Said(drawn.choice(("style", "style", "drawing"))), Said(",")]
    elif style and drawn.random() < 0.2 and len(parts) + len(ground) < 9:
        ground, style = [*ground, Said(drawn.choice((", in a", ","))), *style, Said("style")], []
    if ground and drawn.random() < 0.2 and "," not in (part.words for part in style):
        text = [*ground, Said(","), *style, *parts]
    else:
        text = [*style, *parts, *ground]
    if long(text):
        text = [part for part in text if part.sense or part.words in (",", "and")]
    first = replace(text[0], words=text[0].words.lstrip(" ,"))
    text = [*([first] if first.words else []), *text[1:]]
    return text if drawn.random() < 0.5 or long(text, 1) else [Said("a"), *text]


def long(text: list[Said], more: int = 0) -> bool:
    return sum(len(part.words.split()) for part in text) + more > MOST_WORDS


def thing(scene: Scene, number: int, told: Collection[str], drawn: random.Random, choose: Choose) -> list[Said]:
    """One drawing; the colour and the size of two are said of the first."""
    second, words = number == 1, []
    big = scene.places[0] in BIG_PLACES
    if not second and "size" in told:
        words.append(("size", "big" if big else "small"))
    if not second and "tint" in told and scene.tint != NATURAL:
        words.append(("tint", scene.tint))
    noun = [("concept", scene.concepts[number])] if "concepts" in told else []
    place = [("place", scene.places[number])] if "places" in told else []
    said = [Said(choose(sense), sense, second and sense[0] in ("concept", "place")) for sense in (*words, *noun)]
    said += [] if noun else [Said(drawn.choice(NAMELESS))]
    return said + [Said(choose(sense), sense, second) for sense in place]


def joined(things: list[list[Said]], drawn: random.Random) -> list[list[Said]]:
    if len(things) == 1:
        return things
    return [things[0], [Said(drawn.choice(("and", "and", "and a")))], things[1]]


def ground_words(scene: Scene, drawn: random.Random, choose: Choose) -> list[Said]:
    sense = ("ground", scene.ground)
    word, on = Said(choose(sense), sense), drawn.choice(("on", "on", ", on", "against", ","))
    noun = drawn.choice(("background", "background", "ground", "backdrop"))
    if drawn.random() < 0.4:
        return [Said(on), word]
    return [Said(on if on == "," else f"{on} a"), word, Said(noun)]
