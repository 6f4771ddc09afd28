"""The reader of drawn attributes, on scenes it has never seen."""

import random

import numpy as np
import pytest
from small_world.check_reader import right, spoilt
from small_world.drawing import draw
from small_world.reader import read
from small_world.scenes import ATTRIBUTES, Scene, random_scene

COUNT = 250


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    drawn = random.Random("fresh")
    return [random_scene(drawn) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def pictures(scenes) -> dict[str, list[np.ndarray]]:
    drawn = random.Random("pictures")
    return dict(spoilt([draw(scene, drawn) for scene in scenes]))


@pytest.mark.parametrize("way", ["clean", "noise 0.03", "blur 0.8"])
def test_every_attribute_is_read_right_in_more_than_98_of_100(scenes, pictures, way):
    shares = right(scenes, [read(picture) for picture in pictures[way]])
    assert set(shares) == set(ATTRIBUTES)
    assert min(shares.values()) > 0.98, shares


def test_a_background_alone_has_no_thing_and_its_pattern_is_read():
    for pattern in ATTRIBUTES["pattern"]:
        seen = read(draw(Scene((), pattern), random.Random(0)))
        assert seen.things == ()
        assert seen.attributes == {**dict.fromkeys(ATTRIBUTES), "pattern": pattern}


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_an_even_picture_has_no_thing(grey):
    assert read(np.full((64, 64, 3), grey, np.float32)).things == ()


def test_noise_alone_has_no_known_pattern():
    noise = np.random.default_rng(0).random((64, 64, 1), np.float32).repeat(3, -1)
    seen = read(noise)
    assert seen.things == ()
    assert seen.pattern is None


def test_a_blob_of_no_known_outline_has_no_shape():
    picture = draw(Scene((), "plain"), random.Random(0))
    picture[10:54, 30:33] = (0.9, 0.1, 0.1)
    (thing,) = read(picture).things
    assert thing.shape is None
    assert thing.colour == "red"


def test_both_things_of_a_pair_are_read():
    drawn = random.Random("pairs")
    missed = 0
    for _ in range(100):
        scene = random_scene(drawn, pairs=1.0)
        seen = read(draw(scene, drawn)).things
        found = {(thing.shape, thing.colour, thing.place, thing.size) for thing in seen}
        missed += found != {(t.shape, t.colour, t.place, t.size) for t in scene.things}
    assert missed <= 2
