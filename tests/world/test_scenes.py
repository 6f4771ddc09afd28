"""The generator of the small world's scenes."""

import collections
import itertools
import random

import numpy as np
import pytest
from small_world.drawing import CENTRES, HUES, RADII, SIDE, draw
from small_world.patterns import PATTERN_COVERAGES, PATTERN_PERIODS
from small_world.scenes import (
    ATTRIBUTES,
    CORNERS,
    TASKS,
    Scene,
    Thing,
    held_out_scene,
    is_held_out,
    random_scene,
    scene_of,
    scene_to_learn,
    taken,
)
from small_world.shapes import SHAPE_DISTANCES, coverage

MANY = 6000
THING = Thing("star", "red", "middle", "big")


def scenes(seed: int, count: int, pairs: float = 0.0) -> list[Scene]:
    drawn = random.Random(seed)
    return [random_scene(drawn, pairs) for _ in range(count)]


def test_a_seed_fixes_scenes_and_pictures():
    for seed in range(3):
        first, second = (random.Random(seed) for _ in range(2))
        scene = random_scene(first, 0.5)
        assert scene == random_scene(second, 0.5)
        np.testing.assert_array_equal(draw(scene, first), draw(scene, second))


def test_another_seed_gives_other_scenes_and_other_pictures_of_the_same_scene():
    assert scenes(1, 20) != scenes(2, 20)
    scene = Scene((THING,), "dots")
    assert np.abs(draw(scene, random.Random(1)) - draw(scene, random.Random(2))).max() > 0.1


def test_a_picture_is_64_pixels_of_rgb_between_0_and_1():
    drawn = random.Random(0)
    for scene in scenes(0, 50, pairs=0.3):
        picture = draw(scene, drawn)
        assert picture.shape == (SIDE, SIDE, 3)
        assert picture.dtype == np.float32
        assert 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_an_attribute_is_drawn_evenly(name):
    counts = collections.Counter(scene.attributes[name] for scene in scenes(3, MANY))
    expected = MANY / len(ATTRIBUTES[name])
    assert set(counts) == set(ATTRIBUTES[name])
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


@pytest.mark.parametrize(("one", "other"), itertools.combinations(ATTRIBUTES, 2))
def test_attributes_are_independent_of_one_another(one, other):
    """Chi-squared per degree of freedom stays near one."""
    drawn = scenes(4, MANY)
    counts = collections.Counter((scene.attributes[one], scene.attributes[other]) for scene in drawn)
    cells = list(itertools.product(ATTRIBUTES[one], ATTRIBUTES[other]))
    expected = MANY / len(cells)
    freedom = (len(ATTRIBUTES[one]) - 1) * (len(ATTRIBUTES[other]) - 1)
    chi_squared = sum((counts[cell] - expected) ** 2 / expected for cell in cells)
    assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5


def test_tasks_share_no_attribute_but_everything_has_all():
    owned = [name for task, names in TASKS.items() if task != "everything" for name in names]
    assert sorted(owned) == sorted(ATTRIBUTES) == sorted(TASKS["everything"])


def test_a_second_thing_is_in_another_corner_and_differs_in_shape_and_colour():
    pairs = [scene for scene in scenes(5, 200, pairs=1.0)]
    assert all(len(scene.things) == 2 for scene in pairs)
    for first, second in (scene.things for scene in pairs):
        assert {first.place, second.place} <= set(CORNERS)
        assert first.place != second.place
        assert first.shape != second.shape
        assert first.colour != second.colour


def test_the_share_of_pairs_is_as_asked():
    assert {len(scene.things) for scene in scenes(6, 200)} == {1}
    share = np.mean([len(scene.things) == 2 for scene in scenes(6, 2000, pairs=0.25)])
    assert share == pytest.approx(0.25, abs=0.05)


def test_things_that_would_touch_are_refused():
    with pytest.raises(ValueError, match="different corners"):
        Scene((THING, Thing("ring", "blue", "top left", "small")), "plain")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_takes_its_attributes_from_the_reference_and_the_others_from_the_prompt(task):
    reference = scene_of({"shape": "star", "colour": "red", "place": "middle", "size": "big", "pattern": "dots"})
    prompt = scene_of({"shape": "ring", "colour": "blue", "place": "top left", "size": "small", "pattern": "plain"})
    result = taken(task, reference, prompt).attributes
    for name in ATTRIBUTES:
        assert result[name] == (reference if name in TASKS[task] else prompt).attributes[name]


def test_every_value_has_a_way_to_be_drawn():
    assert set(SHAPE_DISTANCES) == set(ATTRIBUTES["shape"])
    assert set(HUES) == set(ATTRIBUTES["colour"])
    assert set(CENTRES) == set(ATTRIBUTES["place"])
    assert set(RADII) == set(ATTRIBUTES["size"])
    assert set(PATTERN_COVERAGES) == set(ATTRIBUTES["pattern"]) == {*PATTERN_PERIODS, "plain"}


@pytest.mark.parametrize("shape", SHAPE_DISTANCES)
def test_a_shape_covers_about_the_area_of_its_circle(shape):
    y, x = np.mgrid[0:64, 0:64] - 31.5
    area = coverage(shape, x, y, 12.5).sum()
    assert 0.6 < area / (np.pi * 12.5**2) < 1.2


@pytest.mark.parametrize("pattern", PATTERN_PERIODS)
def test_a_pattern_repeats_after_its_period(pattern):
    y, x = np.mgrid[0:64, 0:64] + 0.5
    draw_pattern, (across, down) = PATTERN_COVERAGES[pattern], PATTERN_PERIODS[pattern]
    once = draw_pattern(x, y)
    assert once.std() > 0.2
    np.testing.assert_allclose(draw_pattern(x + across, y + down), once, atol=1e-6)
    np.testing.assert_allclose(draw_pattern(x + across, y), once, atol=1e-6)


def test_backgrounds_have_no_colour_of_their_own():
    for pattern in ATTRIBUTES["pattern"]:
        picture = draw(Scene((), pattern), random.Random(0))
        assert (picture.max(-1) - picture.min(-1)).max() < 0.04


def test_one_scene_in_sixteen_is_held_out_of_training():
    share = np.mean([is_held_out(scene) for scene in scenes(7, MANY)])
    assert share == pytest.approx(1 / 16, abs=0.02)
    drawn = random.Random(8)
    assert not any(is_held_out(scene_to_learn(drawn, 0.2)) for _ in range(500))
    assert all(is_held_out(held_out_scene(drawn)) for _ in range(50))
