"""Scenes of the drawn world, and what is drawn of them."""

import random
from collections import Counter

import numpy as np
import pytest
from comfyhost.places import ToolError
from drawn_world.models.autoencoder import find_components
from drawn_world.models.base import Latents
from drawn_world.scenes.drawing import Drawings, draw, ground
from drawn_world.scenes.judge import nearest_scene
from drawn_world.scenes.rendering import fetched
from drawn_world.scenes.scene import (
    BIG_PLACES,
    CONCEPTS,
    DATA,
    DRAWINGS,
    HELD_OUT,
    STYLES,
    TASKS,
    TINTS,
    Scene,
    random_scene,
    taken,
)
from drawn_world.storage import STORED

SCENE = Scene(("cat",), "flat", "natural", ("left",), "mint")
OTHER = Scene(("moon",), "cartoon", "blue", ("top left",), "dots")


def test_all_concepts_are_drawn_in_all_styles():
    stored = Drawings(STORED / "drawings.npz")
    assert all(stored.has(concept, style) for concept, style in DRAWINGS)
    assert len(stored.pixels) == len(DRAWINGS) == len(CONCEPTS) * len(STYLES)


def test_each_concept_is_held_out_in_one_style_and_each_style_in_as_many_concepts():
    assert {concept for concept, _ in HELD_OUT} == set(CONCEPTS)
    assert set(Counter(style for _, style in HELD_OUT).values()) == {len(CONCEPTS) // len(STYLES)}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_takes_its_attributes_and_leaves_the_rest(task):
    mixed = taken(task, SCENE, OTHER)
    for name in ("concepts", "style", "tint", "places", "ground"):
        assert getattr(mixed, name) == getattr(SCENE if name in TASKS[task] else OTHER, name)


def test_a_drawing_covers_its_place_and_nothing_else():
    picture, bare = draw(SCENE), ground("mint")
    changed = np.argwhere(np.abs(picture - bare).max(-1) > 0.01)
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    x, y = BIG_PLACES["left"]
    assert x <= left < right < x + 64 and y <= top < bottom < y + 64
    assert max(right - left, bottom - top) > 50


@pytest.mark.parametrize("tint", TINTS)
def test_a_tinted_drawing_has_its_hue(tint):
    scene = Scene(("cat",), "glossy", tint, ("middle",), "white")
    pixels = draw(scene)[24:72, 24:72].reshape(-1, 3)
    drawn = pixels[np.ptp(pixels, axis=1) > 0.2].mean(0)
    wanted = np.array(TINTS[tint]) / 255
    wanted, drawn = wanted - wanted.mean(), drawn - drawn.mean()
    assert wanted @ drawn / np.linalg.norm(wanted) / np.linalg.norm(drawn) > 0.9


def test_latents_kept_in_parts_are_those_of_the_whole_picture():
    found, drawn = find_components(scenes=40), random.Random(5)
    latents = Latents(found)
    for _ in range(20):
        scene = random_scene(drawn, pairs=0.5)
        whole = found.encode(draw(scene)[None])[0]
        assert (latents.of(scene) - whole).abs().max() < 0.02  # kept in half precision


def test_the_judge_reads_real_pictures_right_though_they_are_noisy():
    drawn, noise = random.Random(7), np.random.default_rng(0)
    for _ in range(25):
        scene = random_scene(drawn, pairs=0.3)
        assert nearest_scene(np.clip(draw(scene) + noise.normal(0, 0.05, (96, 96, 3)), 0, 1)) == scene


def test_a_package_that_is_not_the_one_that_was_measured_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAWN_WORLD", str(tmp_path))
    name, facts = next(iter(DATA["sets"].items()))
    path = tmp_path / "packages" / f"iconify-json-{name}-{facts['version']}.tgz"
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(ToolError, match="should have the hash"):
        fetched(name)
