"""Captions of the small world's scenes: only true ones, of many kinds."""

import random
import re

import pytest
from small_world.captions import WORDS, caption, full_caption, random_caption
from small_world.scenes import ATTRIBUTES, Scene, random_scene

LONGEST = 30  # words and commas: at most 32 tokens, with their start and end, are told apart (encoders.SPELLED)


def told(text: str) -> dict[str, set[str]]:
    """Which values a caption names, by attribute."""
    values = {}
    for name, words in WORDS.items():
        values[name] = {v for v, alike in words.items() if any(re.search(rf"\b{word}\b", text) for word in alike)}
    return values


def scenes(count: int, pairs: float = 0.3) -> list[tuple[Scene, random.Random]]:
    drawn = random.Random(1)
    return [(random_scene(drawn, pairs), drawn) for _ in range(count)]


def true_values(scene: Scene, name: str) -> set[str]:
    return {scene.pattern} if name == "pattern" else {getattr(thing, name) for thing in scene.things}


def test_a_caption_says_only_what_is_true():
    for scene, drawn in scenes(1000):
        text = random_caption(scene, drawn)
        for name, values in told(text).items():
            assert values <= true_values(scene, name), text


def test_a_full_caption_says_everything():
    for scene, _ in scenes(300):
        text = full_caption(scene)
        assert told(text) == {name: true_values(scene, name) for name in ATTRIBUTES}, text


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_alone_is_told_alone_and_may_be_left_out(name):
    others = [other for other in ATTRIBUTES if other != name]
    for scene, drawn in scenes(100):
        assert told(caption(scene, [name], drawn)) == {
            **{other: set() for other in others},
            name: true_values(scene, name),
        }
        assert told(caption(scene, others, drawn))[name] == set()


def test_no_two_values_share_a_word_and_every_value_has_one():
    for name, words in WORDS.items():
        assert set(words) == set(ATTRIBUTES[name])
    every = [word for words in WORDS.values() for alike in words.values() for word in alike]
    assert len(every) == len(set(every))


def test_a_scene_has_many_captions_but_a_seed_has_one():
    scene = random_scene(random.Random(2))
    texts = [random_caption(scene, random.Random(seed)) for seed in range(200)]
    assert len(set(texts)) > 60
    assert texts == [random_caption(scene, random.Random(seed)) for seed in range(200)]


def test_half_of_the_captions_and_more_say_everything():
    full = [
        told(random_caption(scene, drawn)) == {name: true_values(scene, name) for name in ATTRIBUTES}
        for scene, drawn in scenes(500)
    ]
    assert 0.5 < sum(full) / len(full) < 0.8


def test_captions_are_short_enough_for_their_words_to_be_told_apart():
    assert all(len(re.findall(r"\w+|,", random_caption(scene, drawn))) <= LONGEST for scene, drawn in scenes(1000, 1.0))
