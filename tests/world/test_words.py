"""Captions and instructions of the drawn world, and what their words mean."""

import random

import pytest
from drawn_world.models.text_encoder import SHORT, Tokens
from drawn_world.scenes.scene import TASKS, Scene, random_scene
from drawn_world.scenes.words import (
    CAPTIONED,
    SENSES,
    SENSES_OF,
    held_out_wordings,
    plain_caption,
    random_attributes,
    random_caption,
    senses_of,
    trained_wordings,
    words_for,
)

SCENE = Scene(("cat", "moon"), "flat", "red", ("top left", "bottom right"), "dots")


def test_no_two_senses_share_a_word():
    words = [word for sense in SENSES for word in words_for(sense)]
    shared = {word for word in words if words.count(word) > 1}
    assert shared == set()


def test_no_wording_of_a_sense_begins_another_of_its_kind():
    """A state is made of what stands before it, so it could not be known which is meant."""
    for name, values in SENSES_OF.items():
        words = [word for value in values for word in words_for((name, value))]
        assert not [(one, other) for one in words for other in words if other.startswith(f"{one} ")]


def test_the_plain_caption_tells_everything():
    assert plain_caption(SCENE) == "flat red cat at the upper left and moon at the lower right on dots"


def test_a_caption_means_what_it_tells_and_nothing_else():
    drawn = random.Random(1)
    for _ in range(300):
        scene, names = random_scene(drawn), random_attributes(drawn)
        phrases = random_caption(scene, names, drawn)
        assert {(phrase.sense, phrase.second) for phrase in phrases if phrase.sense} == set(senses_of(scene, names))


def test_every_task_has_at_least_twenty_wordings_and_some_are_held_out():
    for task in TASKS:
        assert len(set(trained_wordings(task))) >= 20
        assert len(held_out_wordings(task)) >= 5
        assert not set(trained_wordings(task)) & set(held_out_wordings(task))


def test_captions_begin_with_a_word():
    drawn = random.Random(2)
    for _ in range(300):
        assert random_caption(random_scene(drawn), CAPTIONED, drawn)[0].words[0].isalnum()


def test_the_tokens_of_a_caption_are_those_of_its_words():
    drawn, tokens = random.Random(3), Tokens()
    ids, places = tokens.with_senses(random_caption(SCENE, ("concepts", "places"), drawn))
    assert len(ids) == SHORT
    assert [phrase.sense[1] for _, phrase in places] == ["cat", "top left", "moon", "bottom right"]


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 19 tokens"):
        Tokens().of_text("cat " * 20)
