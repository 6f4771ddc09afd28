"""Saved workflows as prompts, checked against what a real ComfyUI 0.3.75 says about its core nodes."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ipadapter_instruct.commands.servers.api_prompt import WorkflowError, to_prompt

DATA = Path(__file__).parents[1] / "data"
OBJECT_INFO = json.loads((DATA / "object_info-0.3.75.json").read_text(encoding="utf-8"))

WITH_MASK = {  # as 0.3.75 says it
    "LoadImageMask": {
        "input": {"required": {"image": [["a.png"], {"image_upload": True}], "channel": [["alpha", "red"]]}},
        "input_order": {"required": ["image", "channel"]},
    }
}


def node(number: int, kind: str, values=(), inputs=(), outputs=(), **more) -> dict:
    """A saved node; `inputs` and `outputs` are (name, type, link or links)."""
    return {
        "id": number,
        "type": kind,
        "mode": 0,
        "properties": {},
        "widgets_values": list(values),
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": name, "type": type_, "links": links} for name, type_, links in outputs],
        **more,
    }


def workflow(nodes: list[dict], links: list[list]) -> dict:
    return {"nodes": nodes, "links": links, "version": 0.4}


def scaled(*between: dict, links: list[list], feeds: int) -> dict:
    """LoadImage (1), what lies between, ImageScale (9) fed by the link `feeds`."""
    load = node(1, "LoadImage", ["example.png", "image"], outputs=[("IMAGE", "IMAGE", [1]), ("MASK", "MASK", [])])
    scale = node(9, "ImageScale", ["lanczos", 64, 64, "disabled"], [("image", "IMAGE", feeds)])
    return workflow([load, *between, scale], links)


def test_widgets_become_inputs_in_their_order_and_links_point_at_outputs():
    prompt = to_prompt(scaled(links=[[1, 1, 0, 9, 0, "IMAGE"]], feeds=1), OBJECT_INFO)
    assert prompt["1"] == {
        "class_type": "LoadImage",
        "inputs": {"image": "example.png"},
        "_meta": {"title": "Load Image"},
    }
    assert prompt["9"]["inputs"] == {
        "image": ["1", 0],
        "upscale_method": "lanczos",
        "width": 64,
        "height": 64,
        "crop": "disabled",
    }


def test_a_title_given_by_the_user_is_kept():
    saved = workflow([node(1, "LoadImage", ["a.png", "image"], title="Reference")], [])
    assert to_prompt(saved, OBJECT_INFO)["1"]["_meta"]["title"] == "Reference"


def test_the_value_for_control_after_generate_is_no_input():
    values = [7, "randomize", 20, 8.0, "euler", "normal", 1.0]
    inputs = to_prompt(workflow([node(3, "KSampler", values)], []), OBJECT_INFO)["3"]["inputs"]
    assert inputs == {
        "seed": 7,
        "steps": 20,
        "cfg": 8.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }


def test_the_value_for_control_after_generate_follows_its_seed_wherever_that_is():
    values = ["enable", 7, "fixed", 20, 8.0, "euler", "normal", 0, 10000, "disable"]
    inputs = to_prompt(workflow([node(3, "KSamplerAdvanced", values)], []), OBJECT_INFO)["3"]["inputs"]
    assert (inputs["add_noise"], inputs["noise_seed"], inputs["steps"]) == ("enable", 7, 20)
    assert inputs["return_with_leftover_noise"] == "disable"


def test_the_upload_button_may_be_saved_or_not():
    for values in (["a.png", "image"], ["a.png"]):
        prompt = to_prompt(workflow([node(1, "LoadImage", values)], []), OBJECT_INFO)
        assert prompt["1"]["inputs"] == {"image": "a.png"}


def test_the_upload_button_stands_behind_all_that_is_required():
    for values in (["a.png", "red", "image"], ["a.png", "red"]):
        inputs = to_prompt(workflow([node(1, "LoadImageMask", values)], []), WITH_MASK)["1"]["inputs"]
        assert inputs == {"image": "a.png", "channel": "red"}


def test_values_saved_by_name_are_taken_by_name():
    saved = node(1, "EmptyLatentImage")
    saved["widgets_values"] = {"batch_size": 1, "width": 8, "height": 16, "preview": "x"}
    inputs = to_prompt(workflow([saved], []), OBJECT_INFO)["1"]["inputs"]
    assert inputs == {"width": 8, "height": 16, "batch_size": 1}


def test_a_list_as_a_value_is_wrapped_so_that_it_is_no_link():
    saved = workflow([node(1, "SaveImage", [["a", 1]])], [])
    assert to_prompt(saved, OBJECT_INFO)["1"]["inputs"] == {"filename_prefix": {"__value__": ["a", 1]}}


def test_a_linked_widget_takes_the_link_instead_of_its_value():
    empty = node(2, "EmptyLatentImage", [64, 64, 1])
    empty["inputs"] = [{"name": "width", "type": "INT", "widget": {"name": "width"}, "link": 5}]
    primitive = node(4, "PrimitiveNode", [512, "fixed"], outputs=[("INT", "INT", [5])])
    prompt = to_prompt(workflow([empty, primitive], [[5, 4, 0, 2, 0, "INT"]]), OBJECT_INFO)
    assert prompt == {
        "2": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 512, "height": 64, "batch_size": 1},
            "_meta": {"title": "Empty Latent Image"},
        }
    }


def test_notes_are_left_out():
    saved = workflow([node(1, "Note", ["hello"]), node(2, "MarkdownNote", ["hello"])], [])
    assert to_prompt(saved, OBJECT_INFO) == {}


def test_reroutes_are_followed():
    first = node(2, "Reroute", inputs=[("", "*", 1)], outputs=[("", "IMAGE", [2])])
    second = node(3, "Reroute", inputs=[("", "*", 2)], outputs=[("", "IMAGE", [3])])
    links = [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"], [3, 3, 0, 9, 0, "IMAGE"]]
    prompt = to_prompt(scaled(first, second, links=links, feeds=3), OBJECT_INFO)
    assert prompt["9"]["inputs"]["image"] == ["1", 0]
    assert set(prompt) == {"1", "9"}


def test_a_reroute_from_nowhere_feeds_nothing():
    reroute = node(2, "Reroute", inputs=[("", "*", None)], outputs=[("", "IMAGE", [3])])
    prompt = to_prompt(scaled(reroute, links=[[3, 2, 0, 9, 0, "IMAGE"]], feeds=3), OBJECT_INFO)
    assert "image" not in prompt["9"]["inputs"]


def test_a_muted_node_and_what_it_feeds_are_left_out():
    muted = node(2, "ImageScale", ["lanczos", 8, 8, "disabled"], [("image", "IMAGE", 1)], [("IMAGE", "IMAGE", [2])])
    muted["mode"] = 2
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 9, 0, "IMAGE"]]
    prompt = to_prompt(scaled(muted, links=links, feeds=2), OBJECT_INFO)
    assert set(prompt) == {"1", "9"}
    assert "image" not in prompt["9"]["inputs"]


def test_a_bypassed_node_passes_its_input_of_the_same_type_on():
    inputs = [("model", "MODEL", None), ("clip", "CLIP", 1)]
    outputs = [("MODEL", "MODEL", []), ("CLIP", "CLIP", [2])]
    lora = node(2, "LoraLoader", ["x.safetensors", 1.0, 1.0], inputs, outputs, mode=4)
    loader = node(1, "CheckpointLoaderSimple", ["a.safetensors"])
    text = node(3, "CLIPTextEncode", ["words"], [("clip", "CLIP", 2)])
    links = [[1, 1, 1, 2, 1, "CLIP"], [2, 2, 1, 3, 0, "CLIP"]]
    prompt = to_prompt(workflow([loader, lora, text], links), OBJECT_INFO)
    assert prompt["3"]["inputs"]["clip"] == ["1", 1]
    assert set(prompt) == {"1", "3"}


def test_a_bypassed_node_prefers_the_input_in_the_outputs_place():
    inputs = [("image1", "IMAGE", 1), ("image2", "IMAGE", 4)]
    batch = node(2, "ImageBatch", [], inputs, [("IMAGE", "IMAGE", [2])], mode=4)
    other = node(5, "LoadImage", ["b.png", "image"])
    links = [[1, 1, 0, 2, 0, "IMAGE"], [4, 5, 0, 2, 1, "IMAGE"], [2, 2, 0, 9, 0, "IMAGE"]]
    prompt = to_prompt(scaled(batch, other, links=links, feeds=2), OBJECT_INFO)
    assert prompt["9"]["inputs"]["image"] == ["1", 0]


def test_a_bypassed_node_without_a_fitting_input_feeds_nothing():
    bypassed = node(2, "LoadImage", ["b.png", "image"], outputs=[("IMAGE", "IMAGE", [2])], mode=4)
    prompt = to_prompt(scaled(bypassed, links=[[2, 2, 0, 9, 0, "IMAGE"]], feeds=2), OBJECT_INFO)
    assert "image" not in prompt["9"]["inputs"]


def test_a_wrong_number_of_widget_values_is_refused_with_both_numbers_and_the_names():
    saved = workflow([node(3, "KSampler", [7, 20, 8.0, "euler", "normal", 1.0])], [])
    with pytest.raises(WorkflowError, match=r"Node 3 \(KSampler\) has 6 widget values, 7 were expected \(seed, "):
        to_prompt(saved, OBJECT_INFO)


@pytest.mark.parametrize(
    ("properties", "remedy"),
    [
        ({"cnr_id": "some-pack"}, "node pack some-pack"),
        ({"aux_id": "somebody/some-pack"}, "node pack somebody/some-pack"),
        ({"cnr_id": "comfy-core"}, "newer ComfyUI"),
        ({}, "node pack may be missing"),
    ],
)
def test_an_unknown_type_says_where_it_may_come_from(properties, remedy):
    saved = workflow([node(3, "Unheard", properties=properties)], [])
    with pytest.raises(WorkflowError, match=rf"Node 3 \(Unheard\).*{remedy}"):
        to_prompt(saved, OBJECT_INFO)


def test_an_unknown_type_that_is_muted_does_not_matter():
    assert to_prompt(workflow([node(3, "Unheard", mode=2)], []), OBJECT_INFO) == {}


def test_an_api_prompt_is_taken_as_it_is_and_copied():
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Reference"}}}
    made = to_prompt(prompt, OBJECT_INFO)
    assert made == prompt
    made["1"]["inputs"]["image"] = "b.png"
    assert prompt["1"]["inputs"]["image"] == "a.png"


def test_an_unknown_type_in_an_api_prompt_is_refused():
    with pytest.raises(WorkflowError, match=r"Node 1 \(Unheard\)"):
        to_prompt({"1": {"class_type": "Unheard", "inputs": {}}}, OBJECT_INFO)


@pytest.mark.parametrize("other", [{}, [], {"1": {"inputs": {}}}, "x", None])
def test_what_is_no_workflow_is_refused(other):
    with pytest.raises(WorkflowError, match="something else"):
        to_prompt(other, OBJECT_INFO)


def test_links_as_objects_are_refused():
    with pytest.raises(WorkflowError, match="version 1"):
        to_prompt({"nodes": [], "links": [{"id": 1}], "version": 1}, OBJECT_INFO)


def test_a_link_from_a_node_that_is_gone_is_refused():
    with pytest.raises(WorkflowError, match="link 1 starts nowhere"):
        to_prompt(scaled(links=[[1, 77, 0, 9, 0, "IMAGE"]], feeds=1), OBJECT_INFO)


def test_the_workflow_is_left_as_it_was():
    saved = scaled(links=[[1, 1, 0, 9, 0, "IMAGE"]], feeds=1)
    before = copy.deepcopy(saved)
    to_prompt(saved, OBJECT_INFO)
    assert saved == before
