"""Captions and instructions of the drawn world, and what their words mean."""

import random

import pytest
from drawn_world.models.text_encoder import SHORT, Tokens
from drawn_world.scenes import words
from drawn_world.scenes.scene import TASKS, Scene, random_scene

SCENE = Scene(("cat", "moon"), "flat", "red", ("top left", "bottom right"), "dots")


def test_no_two_senses_share_a_word():
    said = [word for sense in words.SENSES for word in words.words_for(sense)]
    shared = {word for word in said if said.count(word) > 1}
    assert shared == set()


def test_no_wording_of_a_sense_begins_another_of_its_kind():
    """A state is made of what stands before it, so it could not be known which is meant."""
    for name, values in words.SENSES_OF.items():
        said = [word for value in values for word in words.words_for((name, value))]
        assert not [(one, other) for one in said for other in said if other.startswith(f"{one} ")]


def test_the_plain_caption_tells_everything():
    assert words.plain_caption(SCENE) == "flat red cat at the upper left and moon at the lower right on dots"


def test_a_caption_means_what_it_tells_and_nothing_else():
    drawn = random.Random(1)
    for _ in range(300):
        scene, names = random_scene(drawn), words.random_attributes(drawn)
        phrases = words.random_caption(scene, names, drawn)
        assert {(phrase.sense, phrase.second) for phrase in phrases if phrase.sense} == set(
            words.senses_of(scene, names)
        )


def test_every_task_has_at_least_twenty_wordings_and_some_are_held_out():
    for task in TASKS:
        assert len(set(words.trained_wordings(task))) >= 20
        assert len(words.held_out_wordings(task)) >= 5
        assert not set(words.trained_wordings(task)) & set(words.held_out_wordings(task))


def test_captions_begin_with_a_word():
    drawn = random.Random(2)
    for _ in range(300):
        assert words.random_caption(random_scene(drawn), words.CAPTIONED, drawn)[0].words[0].isalnum()


def test_the_tokens_of_a_caption_are_those_of_its_words():
    drawn, tokens = random.Random(3), Tokens()
    ids, places = tokens.with_senses(words.random_caption(SCENE, ("concepts", "places"), drawn))
    assert len(ids) == SHORT
    assert [phrase.sense[1] for _, phrase in places] == ["cat", "top left", "moon", "bottom right"]


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 19 tokens"):
        Tokens().of_text("cat " * 20)
