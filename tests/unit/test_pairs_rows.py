"""Pairs before any server is asked: what a folder or a manifest says, which pairs are drawn, what is held out."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipadapter_instruct.commands.pairs import written
from ipadapter_instruct.commands.pairs.command import wish_of
from ipadapter_instruct.commands.pairs.recipes import RECIPES, recipe_of
from ipadapter_instruct.commands.pairs.rows import Ring, Wish, rows_of
from ipadapter_instruct.commands.pairs.sources import Source, Sources, read_sources
from ipadapter_instruct.commands.servers.places import Places
from ipadapter_instruct.models.training.pairs import read_pairs

MASKED = Places({"Mask": (("1", "image"),)}, {"Reference": "2"})
STYLED = Places({place: (("1", "x"),) for place in ("Picture", "Prompt", "Seed")}, {"Target": "2"})


def sources(count: int, **more) -> Sources:
    pictures = (
        Source(f"{number}.png", f"{number}.png", caption=f"caption {number}", **more) for number in range(count)
    )
    return Sources(Path("folder"), tuple(pictures))


def people(count: int, pictures: int, mask: str = "m.png") -> Sources:
    found = (
        Source("", f"{who}/{number}.png", caption=f"{who} {number}", identity=f"{who}", mask=mask)
        for who in range(count)
        for number in range(pictures)
    )
    return Sources(Path("folder"), tuple(found))


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def test_a_folder_says_what_stands_beside_each_picture(tmp_path):
    write(tmp_path, b_png="", b_txt=" a boat \n", b_mask_png="", b_object_txt="boat", ann__a_jpg="", ann__a_pose_png="")
    write(tmp_path, notes_md="", ann__a_prompt_txt="a man")
    assert read_sources(tmp_path).all == (
        Source("ann/a.jpg", "ann/a.jpg", prompt="a man", pose="ann/a.pose.png", identity="ann"),
        Source("b.png", "b.png", caption="a boat", mask="b.mask.png", object="boat"),
    )


def test_a_manifest_says_the_same(tmp_path):
    write(tmp_path, a_png="", m_png="")
    line = {"picture": "a.png", "caption": "a boat", "mask": "m.png", "object": "boat", "identity": "x", "prompt": "y"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(line), encoding="utf-8")
    found = read_sources(tmp_path / "rows.jsonl")
    assert found.folder == tmp_path
    assert found.all == (Source("line 1 of rows.jsonl", "a.png", "a boat", "y", "boat", "m.png", "", "x"),)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"picture": "gone.png"}, "gone.png is not there"),
        ({"picture": "../a.png"}, "leads out of it"),
        ({"picture": ""}, "name of a file"),
        ({"caption": "x"}, "have a picture"),
        ({"picture": "a.png", "colour": "x"}, "have a picture, and else"),
        ({"picture": "a.png", "caption": 5}, "A text was expected as caption"),
        ({"picture": "a.png", "mask": "gone.png"}, "gone.png is not there"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    write(tmp_path, a_png="")
    (tmp_path / "rows.jsonl").write_text('{"picture": "a.png"}\n' + json.dumps(line), encoding="utf-8")
    with pytest.raises(ValueError, match=f"(?s)1 lines.*line 2 of rows.jsonl: .*{words}"):
        read_sources(tmp_path / "rows.jsonl")


def test_a_line_of_a_list_ends_at_a_line_feed_and_at_no_other_character(tmp_path):
    caption = "a \u2028 b \u2029 c \u0085 d"
    write(tmp_path, style__a_png="")
    line = {"reference": "a.png", "target": "a.png", "caption": caption, "task": "style"}
    written.write_lines([line, line], tmp_path / "style" / written.PAIRS)
    written.join(tmp_path, written.PAIRS)
    assert [pair.caption for pair in read_pairs(tmp_path)] == [caption] * 2
    of_sources = tmp_path / "style" / "sources.jsonl"
    written.write_lines([{"picture": "a.png", "caption": caption}], of_sources)
    assert [source.caption for source in read_sources(of_sources).all] == [caption]


def test_a_line_of_prompts_ends_at_a_line_feed_alone(tmp_path):
    (tmp_path / "prompts.txt").write_text("a \u2028 b\r\n\n c\x85d \n", encoding="utf-8")
    wanted = argparse.Namespace(prompts=tmp_path / "prompts.txt", per_picture=1, held_out=0, seed=0)
    assert wish_of(wanted).prompts == ("a \u2028 b", "c\x85d")


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Pictures .* were expected"):
        read_sources(write(tmp_path, a_txt="x"))


def test_a_new_picture_is_drawn_by_the_words_of_another_and_each_one_by_other_words():
    rows = rows_of(RECIPES["style"], sources(20), Wish(per_picture=3), STYLED)
    assert len(rows) == 60 and all(row.runs for row in rows)
    for number in range(20):
        own = [row for row in rows if row.source.picture == f"{number}.png"]
        assert len({row.caption for row in own}) == 3
        assert f"caption {number}" not in {row.caption for row in own}
    assert len({row.seed for row in rows}) == 60


def test_prompts_and_a_pictures_own_come_before_captions():
    given_prompts = rows_of(RECIPES["style"], sources(5), Wish(prompts=("a", "b")), STYLED)
    assert {row.caption for row in given_prompts} <= {"a", "b"}
    own = rows_of(RECIPES["style"], sources(5, prompt="mine"), Wish(prompts=("a",)), STYLED)
    assert {row.caption for row in own} == {"mine"}
    with pytest.raises(ValueError, match=r"0\.png: words for 3 new pictures.*Give more --prompts"):
        rows_of(RECIPES["style"], sources(1), Wish(per_picture=3, prompts=("a", "b")), STYLED)


def test_the_composition_is_drawn_by_the_pictures_own_words():
    rows = rows_of(RECIPES["composition"], sources(5), Wish(), STYLED)
    assert [row.caption for row in rows] == [f"caption {number}" for number in range(5)]


@given(st.integers(3, 12), st.integers(0, 11))
def test_a_picture_that_comes_in_changes_only_a_neighbour(count, gone):
    names = {str(number): number for number in range(count)}
    fewer = {name: number for name, number in names.items() if number != gone % count}
    places = [int(f"{number * 0x9E3779B97F4A:x}"[-12:], 16) for number in range(50)]
    before, after = Ring(fewer), Ring(names)
    changed = [next(after.after(place)) for place in places if next(after.after(place)) != next(before.after(place))]
    assert set(changed) <= {gone % count}


def test_a_seed_draws_other_pairs_and_the_same_one_the_same():
    def drawn(seed: int) -> list:
        return rows_of(RECIPES["style"], sources(10), Wish(seed=seed), STYLED)

    assert drawn(1) == drawn(1)
    assert [row.caption for row in drawn(1)] != [row.caption for row in drawn(2)]


def test_a_face_is_paired_with_another_picture_of_the_same_person_and_half_are_zoomed():
    rows = rows_of(RECIPES["face"], people(40, 5), Wish(per_picture=2), MASKED)
    assert len(rows) == 400
    assert all(row.target.identity == row.source.identity and row.target != row.source for row in rows)
    assert len({(row.source.picture, row.target.picture) for row in rows}) == 400
    assert 150 < sum(row.runs for row in rows) < 250
    assert all(row.caption == row.target.caption for row in rows)


def test_a_face_without_a_mask_or_a_server_is_not_zoomed_and_one_picture_makes_no_pair():
    assert not any(row.runs for row in rows_of(RECIPES["face"], people(4, 3, mask=""), Wish(), MASKED))
    assert not any(row.runs for row in rows_of(RECIPES["face"], people(4, 3), Wish(), None))
    with pytest.raises(ValueError, match="Two pictures or more"):
        rows_of(RECIPES["face"], people(4, 1), Wish(), MASKED)


@pytest.mark.parametrize("task", ["style", "composition"])
def test_all_pairs_of_a_reference_are_held_out_together_and_the_same_ones_for_every_task(task):
    rows = rows_of(RECIPES[task], sources(30), Wish(per_picture=2, held_out=10), STYLED)
    assert sum(row.held_out for row in rows) == 10
    by_picture = Counter((row.source.picture, row.held_out) for row in rows)
    assert set(by_picture.values()) == {2}
    other = rows_of(RECIPES["everything"], sources(30), Wish(held_out=5), None)
    assert {r.source.picture for r in rows if r.held_out} == {r.source.picture for r in other if r.held_out}


def test_whole_people_are_held_out():
    rows = rows_of(RECIPES["face"], people(10, 3), Wish(held_out=4), MASKED)
    out = {row.source.identity for row in rows if row.held_out}
    assert sum(row.held_out for row in rows) == 6
    assert out.isdisjoint({row.source.identity for row in rows if not row.held_out})


def test_a_part_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="More than 5 pairs were expected"):
        rows_of(RECIPES["everything"], sources(5), Wish(held_out=5), None)


def test_an_object_is_named_in_its_instruction_and_no_other_task_is():
    places = Places({"Mask": (("1", "image"),)}, {"Reference": "2"})
    one = Source("a", "a.png", caption="c", mask="m.png", object="helmet")
    assert rows_of(RECIPES["object"], Sources(Path("x"), (one,)), Wish(), places)[0].instruction == "use the helmet"
    wrong = Source("b", "b.png", caption="c", mask="m.png", object="colour chart")
    with pytest.raises(ValueError, match="b: An instruction for the task 'object'.*'colour'"):
        rows_of(RECIPES["object"], Sources(Path("x"), (one, wrong)), Wish(), places)


def test_every_picture_that_lacks_something_is_named_before_anything_runs():
    some = (Source("a", "a.png", caption="x", object="y"), Source("b", "b.png", caption="x"), Source("c", "c.png"))
    with pytest.raises(ValueError, match="(?s)2 pictures.*b: object expected.*c: caption and object expected"):
        rows_of(RECIPES["object"], Sources(Path("x"), some), Wish(), None)
    with pytest.raises(ValueError, match="a: mask expected, as the workflow says"):
        rows_of(RECIPES["object"], Sources(Path("x"), some[:1]), Wish(), MASKED)


def test_a_workflow_that_gives_captions_needs_none():
    captioned = Places({"Picture": (("1", "image"),)}, {"Caption": "2"})
    (row,) = rows_of(RECIPES["everything"], Sources(Path("x"), (Source("a", "a.png"),)), Wish(), captioned)
    assert row.caption == "" and row.runs


def test_a_task_of_ones_own_needs_an_instruction_and_a_workflow():
    with pytest.raises(ValueError, match="strokes. Name one of these, or give both"):
        recipe_of("strokes", True, False)
    assert recipe_of("strokes", True, True).task == "strokes"
