"""The demo's decisions; `make demo` runs the whole."""

from __future__ import annotations

import io

import pytest
from comfyhost import demo
from comfyhost.places import REPO_ROOT, ToolError
from ipadapter_instruct.commands.servers.client import Run
from PIL import Image

LOADER = {
    "input": {
        "required": {"adapter_name": ["COMBO", {"options": ["sub/a.safetensors", "b.bin"]}]},
        "optional": {"encoder_name": [["auto"], {}]},
    }
}


def picture(colour_to: int, size: tuple[int, int] = (8, 4)) -> bytes:
    image = Image.new("RGB", size)
    image.putpixel((0, 0), (colour_to, 0, 0))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def use(value: str) -> str:
    """The file that the demo takes for one that the workflow names."""
    prompt = {"2": {"class_type": "Loader", "inputs": {"adapter_name": value}}}
    source = {"name": value, "url": f"https://example.com/{value}", "directory": "ipadapter"}
    workflow = {"nodes": [{"id": 2, "type": "Loader", "properties": {"models": [source]}}]}
    demo.use_present_files(prompt, {"Loader": LOADER}, workflow)
    return prompt["2"]["inputs"]["adapter_name"]


def test_a_file_that_is_there_is_used():
    assert use("b.bin") == "b.bin"


def test_the_same_file_in_another_format_will_do():
    assert use("sub/a.bin") == "sub/a.safetensors"
    assert use("b.safetensors") == "b.bin"


def test_a_missing_file_says_from_where_to_where():
    with pytest.raises(ToolError, match=r"asks for a\.bin.*https://example\.com/a\.bin.*models/ipadapter"):
        use("a.bin")


def test_choices_are_read_in_both_ways_that_servers_say_them():
    assert demo.choices(LOADER, "adapter_name") == ["sub/a.safetensors", "b.bin"]
    assert demo.choices(LOADER, "encoder_name") == ["auto"]
    assert demo.choices(LOADER, "absent") == []


def test_options_change_the_prompt():
    prompt = {"7": {"class_type": "KSampler", "inputs": {"steps": 20}}}
    demo.override(prompt, {"steps": 4, "instruction": None})
    assert prompt["7"]["inputs"]["steps"] == 4


def test_an_instruction_counts_whatever_task_the_workflow_has():
    prompt = {"3": {"class_type": "IPAdapterInstructEncode", "inputs": {"task": "style", "instruction": "x"}}}
    demo.override(prompt, {"instruction": "use the pose"})
    assert prompt["3"]["inputs"] == {"task": "own words", "instruction": "use the pose"}


@pytest.mark.parametrize("kind", ["EmptyLatentImage", "EmptySD3LatentImage"])
def test_the_size_is_set_on_the_empty_latent_of_either_kind(kind):
    prompt = {"6": {"class_type": kind, "inputs": {"width": 1024, "height": 1024}}}
    demo.override(prompt, {"width": 256, "height": 128})
    assert demo.latent_size(prompt) == (256, 128)
    assert demo.latent_size({}) is None


def test_an_option_that_the_workflow_has_no_node_for_is_refused():
    with pytest.raises(ToolError, match="steps cannot be set.*KSampler"):
        demo.override({}, {"steps": 4})


def test_a_picture_must_show_something_of_the_right_size():
    demo.check_picture(picture(255), (8, 4))
    with pytest.raises(ToolError, match="8 x 8, but is 8 x 4"):
        demo.check_picture(picture(255), (8, 8))
    with pytest.raises(ToolError, match="flat colour"):
        demo.check_picture(picture(0), (8, 4))
    with pytest.raises(ToolError, match="no picture"):
        demo.check_picture(b"<html>", (8, 4))


def test_a_workflow_that_is_not_shipped_is_refused_with_those_that_are():
    with pytest.raises(ToolError, match="instruct_sd15.json"):
        demo.workflow_at(REPO_ROOT / "workflows" / "instruct_sd99.json")


def test_the_seconds_of_a_run_are_told_apart_and_none_is_lost():
    types = {"1": "CheckpointLoaderSimple", "2": "IPAdapterInstructLoader", "3": "KSampler", "4": "SaveImage"}
    prompt = {node_id: {"class_type": kind} for node_id, kind in types.items()}
    run = Run("a", seconds={"1": 2.0, "2": 0.5, "3": 4.25, "4": 0.125})
    said = demo.parts_of(prompt, run, 7.0)
    assert said.startswith("loading 2.50 s, ") and "sampling 4.25 s" in said and "decoding" not in said
    assert said.endswith("rest 0.25 s")


def test_nodes_that_a_node_made_of_itself_are_told_by_its_title():
    line = demo.ProgressLine({"6": {"_meta": {"title": "Instruct Grid"}}})
    assert line.title("6") == "Instruct Grid"
    assert line.title("6.0.0.KSampler-a818d996f1ff") == "Instruct Grid: KSampler"
    assert line.title("7") == "7"
