"""The workflow files in workflows/: settings, sources of files, notes, and what the page and Manager read in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from comfyhost.in_process import pack_module
from comfyhost.places import REPO_ROOT
from comfyhost.standins import STAND_INS
from PIL import Image
from shipped.graph import BESIDE_NAMES, pack_version
from shipped.recipes import EVERYWHERE, RECIPES
from support.newer_nodes import newer_nodes

published_files = pack_module("models.files.published_files")

FOLDER = REPO_ROOT / "workflows"
SETTINGS = {  # weight, instruct_guidance, image_guidance; cfg; the latent's kind and side
    "sd15": ((0.8, 2.0, 1.0), 5.0, "EmptyLatentImage", 512),
    "sdxl": ((0.9, 4.0, 0.5), 7.0, "EmptyLatentImage", 1024),
    "sd3": ((0.8, 6.0, 1.0), 6.0, "EmptySD3LatentImage", 1024),
}
ONLY_SD15 = ("foreground", "background", "object")
TASKS = ("everything", "style", "colour", "pose", "composition", "face", *ONLY_SD15)
USES = {
    "instruct_sd15.app",
    "object_background_removed",
    "face_found",
    "object_by_words",
    "train_instruction",
    "style_and_composition",
    "with_controlnet",
    "inpainting",
    "sampler_custom_advanced",
    "several_references",
    "batch_of_references",
    "regions",
    "negative_instruction",
    "object_cut_out",
    "detail_tiles",
    "stored_embeds",
    "weight_over_time",
    "instruction_schedule",
    "layer_weights",
    "task_settings",
    "grid",
    "five_instructions",
    "heat_map",
    "compare_adapters",
    "faceid_embeddings",
    *(f"pairs_{made}" for made in ("style", "colour", "composition", "pose", "cut_out", "new_part")),
}
NEWER = {  # ComfyUI's own nodes, and the first version with the commit that brought them
    "SAM3_Detect": "0.20.0",  # 749d5b4e
    "LoadBackgroundRemovalModel": "0.21.0",  # d3c18c16
    "RemoveBackground": "0.21.0",
    "LoadMediaPipeFaceLandmarker": "0.23.0",  # 4d6a058b
    "MediaPipeFaceLandmarker": "0.23.0",
    "MediaPipeFaceMask": "0.23.0",
}
REGISTRY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def family(name: str) -> dict:
    return read(f"instruct_{name}")


def nodes(workflow: dict, kind: str) -> list[dict]:
    return [n for n in workflow["nodes"] if n["type"] == kind]


def node(workflow: dict, kind: str) -> dict:
    (found,) = nodes(workflow, kind)
    return found


def note(workflow: dict) -> str:
    return node(workflow, "MarkdownNote")["widgets_values"][0]


def link_of(node: dict, name: str) -> int | None:
    return next(slot["link"] for slot in node["inputs"] if slot["name"] == name)


def listed_files(workflow: dict) -> Iterator[dict]:
    for n in workflow["nodes"]:
        yield from n["properties"].get("models", [])


def test_there_is_one_for_each_family_and_use_with_its_picture_and_nothing_else():
    wanted = {f"instruct_{name}" for name in STAND_INS} | USES
    assert set(RECIPES) == wanted
    assert {path.name for path in FOLDER.iterdir()} == {f"{n}.{kind}" for n in wanted for kind in ("json", "jpg")}
    assert len({read(name)["id"] for name in wanted}) == len(wanted)


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_are_of_a_size_that_a_browser_loads_at_once(name):
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.width == 1200 or picture.height == 900
    assert (FOLDER / f"{name}.jpg").stat().st_size < 200_000


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_are_the_authors_for_the_family(name):
    """Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos."""
    workflow = family(name)
    (weight, instruct, image), cfg, latent, side = SETTINGS[name]
    assert node(workflow, "IPAdapterInstructApply")["widgets_values"] == [weight, "auto", instruct, image, 0.0, 1.0]
    assert node(workflow, "KSampler")["widgets_values"][3] == cfg
    assert node(workflow, latent)["widgets_values"] == [side, side, 1]


@pytest.mark.parametrize("name", RECIPES)
def test_every_encode_names_a_task_with_its_wording_or_has_words_of_its_own_and_prompts(name):
    """So that the words that are seen are those that count; linked words are own words, whatever stands below."""
    wordings = {f"use the {task}" if task != "everything" else "use everything": task for task in TASKS}
    workflow = read(name)
    for encode in nodes(workflow, "IPAdapterInstructEncode"):
        task, instruction, prompt, negative = encode["widgets_values"]
        linked = link_of(encode, "instruction") is not None
        assert task == ("own words" if linked else wordings.get(instruction, "own words"))
        assert instruction or linked
        assert prompt
        assert negative


@pytest.mark.parametrize("name", RECIPES)
def test_every_apply_has_the_authors_settings_for_the_family(name):
    """For what SD1.5 and SDXL use for other tasks than theirs; a link is the task's settings themselves."""
    workflow = read(name)
    adapter = next((f["name"] for f in listed_files(workflow) if "instruct" in f["name"]), "")
    if name.startswith("pairs_"):
        assert not adapter, "what is trained would learn from itself"
        return
    adapter = adapter or "-sd15."
    (weight, instruct, image), cfg, *_ = next(SETTINGS[one] for one in SETTINGS if f"-{one}." in adapter)
    for apply in nodes(workflow, "IPAdapterInstructApply"):
        assert apply["widgets_values"] == [weight, "auto", instruct, image, 0.0, 1.0]
    for sampler in (*nodes(workflow, "KSampler"), *nodes(workflow, "CFGGuider")):
        assert cfg in sampler["widgets_values"] or link_of(sampler, "cfg") is not None


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_that_a_loader_chooses_is_listed_with_its_source_and_in_the_note(name):
    workflow = read(name)
    files = list(listed_files(workflow))
    values = [v for n in workflow["nodes"] if n["type"] != "MarkdownNote" for v in n["widgets_values"]]
    chosen = {value for value in values if str(value).endswith((".safetensors", ".bin"))}
    encoders = {file["name"] for file in files if file["directory"] == "clip_vision"}  # the loader chooses by itself
    assert chosen | encoders == {file["name"] for file in files}
    assert [file["url"] for file in files if not file["url"].startswith("https://huggingface.co/")] == []
    lines = [f"- models/{file['directory']}: [{file['name']}]({file['url']})" for file in files]
    assert [line for line in lines if line not in note(workflow)] == []


@pytest.mark.parametrize("name", SETTINGS)
def test_there_is_a_stand_in_for_each_file_of_a_familys_workflow(name):
    assert {f"{f['directory']}/{f['name']}" for f in listed_files(family(name))} == {s.path for s in STAND_INS[name]}


@pytest.mark.parametrize("name", RECIPES)
def test_the_digest_of_each_file_is_told_where_the_pack_knows_it(name):
    known = {file.url: file.sha256 for file in (*published_files.ADAPTERS.values(), published_files.IMAGE_ENCODER)}
    for file in listed_files(read(name)):
        digest = known.get(file["url"])
        assert (file.get("hash"), file.get("hash_type")) == ((digest, "sha256") if digest else (None, None))


@pytest.mark.parametrize("name", RECIPES)
def test_every_widget_value_stands_under_its_name_too(name):
    """ComfyUI's page saves workflows so from 1.58 on, in the order of the places."""
    for n in read(name)["nodes"]:
        named = n.get("widgets_values_named", {})
        shown = [slot["widget"]["name"] for slot in n["inputs"] if "widget" in slot]
        assert list(named.values()) == n["widgets_values"]
        assert n["type"] == "MarkdownNote" or [key for key in named if key not in BESIDE_NAMES.values()] == shown


@pytest.mark.parametrize("name", RECIPES)
def test_every_node_says_which_pack_and_version_it_is_from(name):
    for n in read(name)["nodes"]:
        properties = n["properties"]
        if n["type"] == "MarkdownNote":
            continue
        ours = n["type"].startswith("IPAdapterInstruct")
        assert (properties["cnr_id"], properties["ver"]) == (
            ("ipadapter-instruct", pack_version()) if ours else ("comfy-core", NEWER.get(n["type"], "0.3.75"))
        )
        assert REGISTRY_ID.fullmatch(properties["cnr_id"])
        assert properties["Node name for S&R"] == n["type"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_note_and_the_list_say_which_newer_comfyui_a_workflow_needs(name):
    needed = {version.rpartition(".")[0] for version in newer_nodes(read(name)).values()}
    (row,) = re.findall(rf"^\|.*/{name}\.json.*$", (REPO_ROOT / "docs" / "workflows.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"Needs ComfyUI (\S+) or later", note(read(name)))) == needed
    assert set(re.findall(r"ComfyUI (\S+) or later", row)) == needed
    assert (name in EVERYWHERE) == (not needed)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_note_offers_the_tasks_that_the_family_was_trained_on(name):
    text = note(family(name))
    for task in TASKS:
        offered = bool(re.search(rf"^- \*\*{task}\*\*: \w", text, re.MULTILINE))
        assert offered == (name == "sd15" or task not in ONLY_SD15), task


@pytest.mark.parametrize("name", SETTINGS)
def test_the_note_says_the_settings_that_the_nodes_have(name):
    text = note(family(name)).replace("**", "")
    (weight, instruct, image), cfg, *_ = SETTINGS[name]
    said = [f"weight {weight:g}", f"cfg {cfg:g}", f"instruct_guidance {instruct:g}", f"image_guidance {image:g}"]
    assert [words for words in said if words not in text] == []


@pytest.mark.parametrize("name", RECIPES)
def test_links_agree_with_the_slots_at_both_ends(name):
    workflow = read(name)
    by_id = {n["id"]: n for n in workflow["nodes"]}
    for link, origin, output, target, slot, kind in workflow["links"]:
        assert link in by_id[origin]["outputs"][output]["links"]
        assert by_id[target]["inputs"][slot]["link"] == link
        assert by_id[origin]["outputs"][output]["type"] == kind
    linked = [i["link"] for n in workflow["nodes"] for i in n["inputs"] if i["link"] is not None]
    assert sorted(linked) == [link[0] for link in workflow["links"]]


@pytest.mark.parametrize("name", RECIPES)
def test_no_two_nodes_stand_on_the_same_place(name):
    """Their boxes, titles included, as the file has them; the page may make some a little larger."""
    title = 30
    boxes = [
        (n["type"], n["pos"][0], n["pos"][1] - title, n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1])
        for n in read(name)["nodes"]
    ]
    for i, (kind, left, top, right, bottom) in enumerate(boxes):
        for other, left2, top2, right2, bottom2 in boxes[i + 1 :]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{kind} and {other}"


def test_every_node_of_the_pack_that_a_file_alone_can_show_is_in_a_workflow():
    """But for those that need a file of the user's, or what no workflow names: an encoder in place of the usual one."""
    shown = {n["type"] for name in RECIPES for n in read(name)["nodes"]}
    known = json.loads((REPO_ROOT / "tests" / "data" / "node-schema.json").read_text(encoding="utf-8"))
    assert known.keys() - shown == {"IPAdapterInstructLoadEmbeds", "IPAdapterInstructOpenClip"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_only_picture_needed_is_the_one_that_comfyui_brings(name):
    assert {n["widgets_values"][0] for n in nodes(read(name), "LoadImage")} == {"example.png"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_workflow_has_a_short_note_on_what_to_try(name):
    assert node(read(name), "MarkdownNote")["title"] == "What to try"
    assert len(note(read(name)).split("**Files**")[0]) < 1500


def test_the_app_shows_what_one_sets_and_what_is_saved():
    workflow = read("instruct_sd15.app")
    kinds = {n["id"]: n["type"] for n in workflow["nodes"]}
    shown = workflow["extra"]["linearData"]
    assert workflow["extra"]["linearMode"] is True
    assert [(kinds[number], widget) for number, widget, _ in shown["inputs"]] == [
        ("LoadImage", "image"),
        ("IPAdapterInstructEncode", "task"),
        ("IPAdapterInstructEncode", "prompt"),
        ("IPAdapterInstructApply", "weight"),
        ("IPAdapterInstructEncode", "instruction"),
    ]
    assert [kinds[number] for number in shown["outputs"]] == ["SaveImage"]
    assert node(workflow, "KSampler").pop("widgets_values")[1] == "randomize"
    plain = family("sd15")
    for one in (node(workflow, "KSampler"), node(plain, "KSampler")):
        del one["widgets_values_named"]["control_after_generate"]
    del node(plain, "KSampler")["widgets_values"]
    assert workflow["nodes"] == plain["nodes"] and workflow["links"] == plain["links"]


def test_a_batch_of_references_has_as_many_weights_and_latents_as_pictures():
    workflow = read("batch_of_references")
    assert node(workflow, "EmptyLatentImage")["widgets_values"][2] == 2
    assert "1, 0.6" in node(workflow, "IPAdapterInstructSchedule")["widgets_values"]
    assert "one per batch index" in node(workflow, "IPAdapterInstructReference")["widgets_values"]


def test_both_halves_of_the_regions_mask_their_picture_and_their_prompt():
    workflow = read("regions")
    masks = {
        title: [target for _, origin, _, target, *_ in workflow["links"] if by_title(workflow, title)["id"] == origin]
        for title in ("Left", "Right")
    }
    kinds = {n["id"]: n["type"] for n in workflow["nodes"]}
    for targets in masks.values():
        assert {"IPAdapterInstructApply", "ConditioningSetMask"} <= {kinds[target] for target in targets}
    assert not set(masks["Left"]) & set(masks["Right"])


def by_title(workflow: dict, title: str) -> dict:
    return next(n for n in workflow["nodes"] if n.get("title") == title)
