"""The task list, and what it fills: in every front end and renderer, with mouse and keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from comfyhost.in_process import pack_module
from comfyhost.places import REPO_ROOT
from comfyhost.server import NEWER
from safetensors.torch import save_file
from support.page.acts import Acts, unanswered
from support.page.comfy_page import ComfyPage

SD15, SDXL = (REPO_ROOT / "workflows" / f"instruct_{family}.json" for family in ("sd15", "sdxl"))
ENCODE, APPLY, LOADER = "IPAdapterInstructEncode", "IPAdapterInstructApply", "IPAdapterInstructLoader"
OWN, UNTRAINED = "own words", "\N{WARNING SIGN} not a trained task"
TASKS = ["everything", "style", "colour", "pose", "composition", "face"]
ONLY_SD15 = ["foreground", "background", "object"]
GUIDANCE = ("weight", "guidance", "instruct_guidance", "image_guidance")
SAVED = "(type) => app.graph.serialize().nodes.find((node) => node.type === type)"
PROMPT = "async (type) => Object.values((await app.graphToPrompt()).output).find((node) => node.class_type === type)"
CHOICES = "() => app.graph.nodes.find((node) => node.type === 'IPAdapterInstructEncode').widgets[0].options.values"
MENU = """(text) => {
    const node = app.graph.nodes.find((node) => node.type === 'IPAdapterInstructEncode')
    return app.collectNodeMenuItems(node).find((item) => item?.content === text).callback()
}"""
RELOADED = "async () => { await app.loadGraphData(app.graph.serialize()) }"
LOAD = """(name) => {
    const loader = app.graph.nodes.find((node) => node.type === 'IPAdapterInstructLoader')
    const widget = loader.widgets.find((one) => one.name === 'adapter_name')
    widget.value = name
    widget.callback?.(name)
}"""
TRAINED_FILE = "trained.safetensors"
LABELS = """(type) => app.graph.nodes.find((node) => node.type === type)
    .widgets.map((widget) => widget.label ?? widget.name)"""
GREYED = """() => {
    const encode = app.graph.nodes.find((node) => node.type === 'IPAdapterInstructEncode')
    return !!encode.widgets.find((widget) => widget.name === 'instruction').disabled
}"""


def apply_values(page: ComfyPage) -> list:
    return [page.value(APPLY, name) for name in GUIDANCE]


@pytest.fixture
def sdxl(page: ComfyPage) -> ComfyPage:
    page.drop_workflow(SDXL)
    return page


@pytest.fixture
def sd15(page: ComfyPage) -> ComfyPage:
    page.drop_workflow(SD15)
    return page


def is_greyed(page: ComfyPage) -> bool:
    return page.page.evaluate(GREYED)


def label_of(page: ComfyPage) -> str:
    """The words that the page shows beside the task list."""
    return page.page.evaluate(LABELS, ENCODE)[0]


def write(page: ComfyPage, words: str) -> None:
    page.set(ENCODE, "task", OWN)
    assert page.becomes(lambda: not is_greyed(page))
    page.set(ENCODE, "instruction", words)


def test_choosing_a_task_fills_the_instruction_and_what_is_recommended_for_the_loaded_family(sdxl: ComfyPage):
    assert sdxl.value(ENCODE, "task") == "pose"
    sdxl.set(ENCODE, "task", "composition")
    sdxl.settle()
    assert sdxl.value(ENCODE, "instruction") == "use the composition"
    assert apply_values(sdxl) == [0.9, "auto", 6, 0.5]
    sdxl.screenshot("task-chosen")
    assert "use the composition" in sdxl.text(ENCODE)
    assert sdxl.overflow() == []
    sdxl.set(ENCODE, "task", "style")
    sdxl.settle()
    assert apply_values(sdxl) == [0.9, "auto", 4, 0.5]


def test_what_was_set_by_hand_stays(sdxl: ComfyPage):
    sdxl.set(APPLY, "instruct_guidance", 6)  # as recommended for another task, but by hand
    sdxl.set(APPLY, "weight", 1)  # 1.32.9 drops the point of a number typed into a Vue node
    sdxl.set(ENCODE, "task", "face")
    sdxl.settle()
    assert sdxl.value(ENCODE, "instruction") == "use the face"
    assert apply_values(sdxl) == [1, "auto", 6, 0.5]


def test_what_was_set_by_hand_stays_after_saving_and_opening(sdxl: ComfyPage):
    sdxl.set(APPLY, "instruct_guidance", 6)
    sdxl.page.evaluate(RELOADED)
    sdxl.settle()
    sdxl.set(ENCODE, "task", "face")
    sdxl.settle()
    assert sdxl.value(APPLY, "instruct_guidance") == 6


def test_a_value_that_nobody_recommends_counts_as_set_by_hand(sdxl: ComfyPage, tmp_path: Path):
    """A file that was saved before recommended values were written down is such a case."""
    workflow = json.loads(SDXL.read_text(encoding="utf-8"))
    next(n for n in workflow["nodes"] if n["type"] == APPLY)["widgets_values"][:4] = [0.65, "three-way", 4.0, 1.7]
    (tmp_path / "older.json").write_text(json.dumps(workflow), encoding="utf-8")
    sdxl.clear()
    sdxl.drop_workflow(tmp_path / "older.json")
    sdxl.set(ENCODE, "task", "composition")
    sdxl.settle()
    assert apply_values(sdxl) == [0.65, "three-way", 6, 1.7]


def test_the_menu_takes_the_recommended_settings_all_the_same(sdxl: ComfyPage):
    sdxl.set(APPLY, "weight", 1)
    sdxl.set(ENCODE, "task", "composition")
    sdxl.page.evaluate(MENU, "Recommended settings")
    sdxl.settle()
    assert apply_values(sdxl) == [0.9, "auto", 6, 0.5]


def test_the_instruction_is_greyed_unless_it_counts_and_own_words_come_back(sd15: ComfyPage):
    assert is_greyed(sd15)
    sd15.set(ENCODE, "task", OWN)
    assert sd15.becomes(lambda: not is_greyed(sd15))
    sd15.set(ENCODE, "instruction", "use the Style of the sky")
    sd15.set(ENCODE, "task", "pose")
    assert sd15.becomes(lambda: is_greyed(sd15))
    assert sd15.value(ENCODE, "instruction") == "use the pose"
    sd15.screenshot("greyed")
    sd15.set(ENCODE, "task", OWN)
    assert sd15.becomes(lambda: not is_greyed(sd15))
    assert sd15.value(ENCODE, "instruction") == "use the Style of the sky"


def test_own_words_that_the_file_was_not_trained_on_are_marked(sd15: ComfyPage):
    write(sd15, "make it shine")
    assert sd15.becomes(lambda: UNTRAINED in label_of(sd15))
    sd15.screenshot("untrained")
    write(sd15, "use the Style of the sky")
    assert sd15.becomes(lambda: UNTRAINED not in label_of(sd15))


def test_an_instruction_that_the_file_was_trained_on_here_needs_no_warning(sd15: ComfyPage, models, tmp_path: Path):
    write(sd15, "make it shine")
    assert sd15.becomes(lambda: UNTRAINED in label_of(sd15))
    name = sd15.value(LOADER, "adapter_name")
    tensors = pack_module("models.files.tensor_files").read_file(models.target / "ipadapter" / name)
    save_file(tensors, models.folder / "ipadapter" / TRAINED_FILE, {"instructions": json.dumps(["Make it shine"])})
    workflow = sd15.page.evaluate("() => JSON.stringify(app.graph.serialize())").replace(name, TRAINED_FILE)
    (tmp_path / "trained.json").write_text(workflow, encoding="utf-8")
    sd15.clear()
    sd15.drop_workflow(tmp_path / "trained.json")
    assert sd15.becomes(lambda: sd15.value(ENCODE, "task") == OWN and UNTRAINED not in label_of(sd15))
    sd15.set(ENCODE, "instruction", "make it dull")
    assert sd15.becomes(lambda: UNTRAINED in label_of(sd15))


def test_a_task_that_the_loaded_file_was_not_trained_on_is_marked(sdxl: ComfyPage):
    sdxl.settle()
    assert sdxl.page.evaluate(CHOICES) == [OWN, *TASKS, *ONLY_SD15]
    sdxl.set(ENCODE, "task", "object")
    assert sdxl.becomes(lambda: UNTRAINED in label_of(sdxl))
    sdxl.set(LOADER, "adapter_name", "ip-adapter-instruct-sd15.bin")
    assert sdxl.becomes(lambda: UNTRAINED not in label_of(sdxl))


def test_a_node_without_a_loader_offers_every_task_and_fills_the_instruction_alone(page: ComfyPage):
    page.add_node(ENCODE)
    assert page.value(ENCODE, "task") == "style"
    page.set(ENCODE, "task", "object")
    page.settle()
    assert page.value(ENCODE, "instruction") == "use the object"
    assert UNTRAINED not in label_of(page)


def test_the_task_is_saved_and_sent_and_comes_back(sd15: ComfyPage):
    sd15.set(ENCODE, "task", "face")
    sd15.settle()
    saved, sent = sd15.page.evaluate(SAVED, ENCODE), sd15.page.evaluate(PROMPT, ENCODE)
    assert saved["widgets_values"][:2] == ["face", "use the face"]
    assert len(saved["widgets_values"]) == sum("widget" in slot for slot in saved["inputs"])
    assert (sent["inputs"]["task"], sent["inputs"]["instruction"]) == ("face", "use the face")
    sd15.page.evaluate(RELOADED)
    sd15.settle()
    assert sd15.value(ENCODE, "task") == "face"
    assert sd15.page.evaluate(SAVED, ENCODE)["widgets_values"] == saved["widgets_values"]


def test_words_of_a_run_stay_until_the_next_one(sd15: ComfyPage):
    sd15.set("KSampler", "steps", 1)
    for name in ("width", "height"):
        sd15.set("EmptyLatentImage", name, 128)
    write(sd15, "use the face")
    sd15.set(ENCODE, "prompt", f"not run before, {uuid4()}")
    sd15.queue()
    chosen = "auto: simple for 'face'"
    assert "last run: guidance: simple" in sd15.text(APPLY)
    assert chosen in sd15.text(APPLY)
    assert "last run: instruction: trained on face" in sd15.text(ENCODE)
    sd15.screenshot("words")
    sd15.set(APPLY, "weight", 1)
    assert chosen in sd15.text(APPLY)
    sd15.set(ENCODE, "task", "pose")
    sd15.queue()
    assert "last run: guidance: three-way" in sd15.text(APPLY)
    assert chosen not in sd15.text(APPLY)
    assert sd15.overflow() == []


@pytest.mark.spread("opened", "locale", 2)
@pytest.mark.parametrize("locale", ["ko", "zh", "ja"])
def test_the_nodes_speak_the_pages_language(page: ComfyPage, locale):
    words = json.loads((REPO_ROOT / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))
    task, weight = words[ENCODE]["inputs"]["task"]["name"], words[APPLY]["inputs"]["weight"]["name"]
    page.open(locale)
    page.drop_workflow(SD15)
    page.show_all()
    page.screenshot(f"language-{locale}")
    labels = page.page.evaluate(LABELS, ENCODE) + page.page.evaluate(LABELS, APPLY)
    overflow = page.overflow()
    page.open()
    assert overflow == []
    if page.version() == NEWER:  # 1.32.9 forgets every pack's translations when it loads a language's own
        assert {task, weight} <= set(labels)


@pytest.fixture
def unasked(models) -> Iterator[str]:
    """The name of an adapter file for SDXL that no page has asked the server for."""
    path = models.folder / "ipadapter" / f"unasked-{uuid4()}.bin"
    path.symlink_to(models.target / "ipadapter" / "ip-adapter-instruct-sdxl.bin")
    yield path.name
    path.unlink()


# What may come between a question to the server and its answer, so that the node that asked is there no more.
MEANWHILE = {
    "deleted": lambda page: Acts(page, ENCODE).once("Delete"),
    "deleted-and-undone": lambda page: Acts(page, ENCODE).delete(),
    "made-a-subgraph": lambda page: Acts(page, ENCODE).once("Control+Shift+e"),
    "opened-anew": lambda page: page.page.evaluate(RELOADED),
    "another-opened": lambda page: page.drop_workflow(SD15),
    "closed": lambda page: page.clear(),
}


@pytest.mark.spread("opened", "meanwhile", 2)
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_an_answer_for_a_node_that_is_gone_changes_nothing(sdxl: ComfyPage, unasked: str, meanwhile: str):
    with unanswered(sdxl) as answer:
        sdxl.page.evaluate(LOAD, unasked)
        sdxl.set(ENCODE, "task", "composition")
        MEANWHILE[meanwhile](sdxl)
        sdxl.settle()
        expected = set_values(sdxl)
        answer()
    assert set_values(sdxl) == expected


def set_values(page: ComfyPage) -> dict[str, dict]:
    """The nodes' values by id."""
    return {node["id"]: node["widgets"] for node in page.nodes()}


def test_an_answer_about_a_file_that_was_exchanged_meanwhile_changes_nothing(sd15: ComfyPage, unasked: str):
    file = sd15.value(LOADER, "adapter_name")
    sd15.set(ENCODE, "task", "object")  # which the other file was not trained on
    with unanswered(sd15) as answer:
        for name in (unasked, file):
            sd15.page.evaluate(LOAD, name)
            sd15.settle()
        answer()
    assert UNTRAINED not in label_of(sd15)
