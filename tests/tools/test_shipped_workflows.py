"""The workflow files in workflows/: the same graph for each family, with that family's files and settings."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from comfyhost.places import REPO_ROOT
from comfyhost.standins import STAND_INS

FOLDER = REPO_ROOT / "workflows"
SETTINGS = {  # weight, instruct_guidance, image_guidance; cfg; the latent's kind and side
    "sd15": ((0.8, 2.0, 1.0), 5.0, "EmptyLatentImage", 512),
    "sdxl": ((0.9, 4.0, 0.5), 7.0, "EmptyLatentImage", 1024),
    "sd3": ((0.8, 6.0, 1.0), 6.0, "EmptySD3LatentImage", 1024),
}
ONLY_SD15 = ("foreground", "background", "object")


def read(family: str) -> dict:
    return json.loads((FOLDER / f"instruct_{family}.json").read_text(encoding="utf-8"))


def node(workflow: dict, kind: str) -> dict:
    (found,) = (n for n in workflow["nodes"] if n["type"] == kind)
    return found


def listed_files(workflow: dict) -> Iterator[dict]:
    for n in workflow["nodes"]:
        yield from n["properties"].get("models", [])


def test_there_is_one_for_each_family_with_its_picture_and_nothing_else():
    names = {f"instruct_{family}.{kind}" for family in STAND_INS for kind in ("json", "jpg")}
    assert {path.name for path in FOLDER.iterdir()} == names
    assert len({read(family)["id"] for family in STAND_INS}) == len(STAND_INS)


@pytest.mark.parametrize("family", SETTINGS)
def test_the_settings_are_the_authors_for_the_family(family):
    """Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos."""
    workflow = read(family)
    (weight, instruct, image), cfg, latent, side = SETTINGS[family]
    assert node(workflow, "IPAdapterInstructApply")["widgets_values"] == [weight, "auto", instruct, image, 0.0, 1.0]
    assert node(workflow, "KSampler")["widgets_values"][3] == cfg
    assert node(workflow, latent)["widgets_values"] == [side, side, 1]


@pytest.mark.parametrize("family", SETTINGS)
def test_the_files_are_listed_with_their_sources_and_there_is_a_stand_in_for_each(family):
    workflow = read(family)
    files = list(listed_files(workflow))
    assert {f"{file['directory']}/{file['name']}" for file in files} == {s.path for s in STAND_INS[family]}
    assert all(file["url"].startswith("https://huggingface.co/") for file in files)
    chosen = {value for n in workflow["nodes"] for value in n["widgets_values"]}
    assert {file["name"] for file in files if file["directory"] != "clip_vision"} <= chosen
    note = node(workflow, "MarkdownNote")["widgets_values"][0]
    assert all(file["name"] in note for file in files)


@pytest.mark.parametrize("family", SETTINGS)
def test_the_note_offers_the_instructions_that_the_family_was_trained_on(family):
    note = node(read(family), "MarkdownNote")["widgets_values"][0]
    for task in ("everything", "style", "colour", "pose", "composition", "face"):
        assert f"`use {task}" in note or f"`use the {task}" in note
    assert all((f"`use the {task}" in note) == (family == "sd15") for task in ONLY_SD15)


@pytest.mark.parametrize("family", SETTINGS)
def test_the_note_says_the_settings_that_the_nodes_have(family):
    note = node(read(family), "MarkdownNote")["widgets_values"][0]
    (weight, instruct, image), cfg, *_ = SETTINGS[family]
    said = [f"weight {weight:g}", f"cfg {cfg:g}", f"`instruct_guidance` {instruct:g}", f"`image_guidance` {image:g}"]
    assert [words for words in said if words not in note] == []


@pytest.mark.parametrize("family", SETTINGS)
def test_the_graph_is_that_of_sd15(family):
    """Links, places and everything that is not the family's own."""
    ours, sd15 = read(family), read("sd15")
    assert (ours["links"], ours["groups"]) == (sd15["links"], sd15["groups"])
    for mine, theirs in zip(ours["nodes"], sd15["nodes"], strict=True):
        own = {"type", "properties", "widgets_values"}
        assert {k: v for k, v in mine.items() if k not in own} == {k: v for k, v in theirs.items() if k not in own}
        packs = {"cnr_id", "ver"}
        assert packs & mine["properties"].keys() == (set() if mine["type"] == "MarkdownNote" else packs)
