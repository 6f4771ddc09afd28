"""The pack on ComfyUI's page, in every front end and renderer: what a user sees and does there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from shipped import newer
from support.newer_nodes import newer_nodes, skip_unless_known
from support.page.acts import ACTS, ADD_EVERY_NODE, CALL_AFTER_REMOVAL, REMOVE_ONE_BY_ONE, Acts
from support.page.comfy_page import ComfyPage, lines_of, words
from support.page.missing_models import missing_models

WORKFLOWS = sorted((REPO_ROOT / "workflows").glob("*.json"))
SD15 = REPO_ROOT / "workflows" / "instruct_sd15.json"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
ADAPTER = "ip-adapter-instruct-sd15.bin"
ENCODE, LOADER = "IPAdapterInstructEncode", "IPAdapterInstructLoader"
DOCS = REPO_ROOT / "js" / "docs"
NODES = sorted(path.stem for path in DOCS.glob("*.md"))
KNOWN = "() => Object.keys(LiteGraph.registered_node_types)"


WARNED_BY_THE_PACK = """console.warn('warned by the pack')
//# sourceURL=http://127.0.0.1/extensions/ipadapter-instruct/any.js"""
WRONG = {
    "an exception": "() => { setTimeout(() => { throw new Error('an exception') }) }",
    "a rejected promise": "() => { Promise.reject(new Error('a rejected promise')) }",
    "an error of the console": "() => console.error('an error of the console')",
    "warned by the pack": f"() => new Function({json.dumps(WARNED_BY_THE_PACK)})()",
}


def links_of(workflow: dict) -> list[list[int]]:
    """A saved workflow's links: id, from node, from slot, to node, to slot."""
    return sorted(link[:5] for link in workflow["links"])


def test_the_page_opens_without_an_error(page: ComfyPage):
    """The `page` fixture's own check, from the first request on."""
    page.screenshot("empty")
    assert page.dialogs() == []
    assert page.overflow() == []


@pytest.mark.parametrize("text", WRONG)
def test_what_goes_wrong_in_the_browser_fails_a_test(page: ComfyPage, text: str):
    page.page.evaluate("() => console.warn('a warning of somebody else')")
    page.page.evaluate(WRONG[text])
    with pytest.raises(AssertionError, match=text):
        page.check()


@pytest.mark.parametrize("node_type", [ENCODE, LOADER, None], ids=["encode", "loader", "all"])
def test_whatever_is_done_to_nodes_leaves_nothing_in_the_console(page: ComfyPage, node_type: str | None):
    page.drop_workflow(SD15)
    for act in ACTS:
        act(Acts(page, node_type))
        page.check(act.__name__)


@pytest.mark.parametrize("removal", [REMOVE_ONE_BY_ONE, CALL_AFTER_REMOVAL], ids=["one-by-one", "called-afterwards"])
def test_every_node_can_be_removed(page: ComfyPage, removal: str):
    page.page.evaluate(ADD_EVERY_NODE)
    page.check()
    page.page.evaluate(removal)


def test_every_node_of_the_pack_has_a_help_page():
    assert sorted(json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8"))) == NODES


@pytest.mark.spread("opened", "path", 2)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_opens_whole(page: ComfyPage, path: Path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    skip_unless_known(workflow, page.page.evaluate(KNOWN))
    page.drop_workflow(path)
    page.screenshot(path.stem)
    assert page.missing_nodes() == []
    assert page.links() == links_of(workflow)
    assert page.prompt() == page.expected_prompt(workflow)
    assert page.dialogs() == []
    page.show_all()
    page.screenshot(f"{path.stem}-whole")
    assert page.overflow() == []


@pytest.mark.spread("opened", "name", 2)
@pytest.mark.parametrize("name", [build.__name__ for build in newer.BUILDERS])
def test_an_older_comfyui_names_its_own_nodes_that_it_does_not_have_yet(page: ComfyPage, name: str):
    path = REPO_ROOT / "workflows" / f"{name}.json"
    needed = newer_nodes(json.loads(path.read_text(encoding="utf-8")))
    if needed.keys() <= set(page.page.evaluate(KNOWN)):
        pytest.skip("this ComfyUI has them")
    try:
        page.drop_workflow(path)
        for button in page.page.get_by_test_id("error-overlay-see-errors").all():
            button.click()
            page.page.get_by_text("Core nodes from version").wait_for()
        shown = page.page.inner_text("body")
        page.screenshot(f"{name}-on-an-older-one")
        assert sorted(page.missing_nodes()) == sorted(needed)
        assert [kind for kind in needed if kind not in shown] == []
    finally:
        page.open()


def test_a_run_shows_its_picture_and_what_auto_chose(page: ComfyPage):
    page.drop_workflow(SD15)
    page.set("EmptyLatentImage", "width", 128)
    page.set("EmptyLatentImage", "height", 128)
    page.set("KSampler", "steps", 2)
    page.set("IPAdapterInstructApply", "guidance", "auto")
    page.set("IPAdapterInstructEncode", "task", "composition")
    page.set("IPAdapterInstructEncode", "prompt", f"a lighthouse, {page.version()}, {page.vue_nodes}")
    assert page.value("EmptyLatentImage", "width") == 128
    page.queue()
    page.show_all()
    page.screenshot("run")
    assert page.picture("SaveImage") == [128, 128]
    assert "auto: three-way" in page.text("IPAdapterInstructApply")
    assert page.overflow() == []


@pytest.mark.spread("opened", "node_type")
@pytest.mark.parametrize("node_type", NODES)
def test_a_nodes_help_page_opens_from_its_info_button(page: ComfyPage, node_type: str):
    page.add_node(node_type)
    shown = words(page.help(node_type))
    page.screenshot(f"help-{node_type}")
    assert [line for line in lines_of(DOCS / f"{node_type}.md") if line not in shown] == []


def test_missing_model_files_are_listed_with_their_addresses(page: ComfyPage, models):
    """Downloading is offered for safetensors alone: a rule of the page's own."""
    names = (ADAPTER, CHECKPOINT)
    try:
        with models.without(f"ipadapter/{ADAPTER}", f"checkpoints/{CHECKPOINT}"):
            page.open()
            page.drop_workflow(SD15)
            adapter, checkpoint = missing_models(page.page)
            page.screenshot("missing-models")
    finally:
        page.open()
    urls = {model["name"]: model["url"] for model in models_of(SD15)}
    assert (adapter.name, checkpoint.name) == names
    assert (adapter.downloadable, checkpoint.downloadable) == (False, True)
    for missing in (adapter, checkpoint):
        assert missing.link in (urls[missing.name], urls[missing.name].replace("/resolve/", "/blob/"))


def models_of(path: Path) -> list[dict]:
    """The model files that a workflow's nodes name."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return [model for node in nodes for model in node["properties"].get("models", [])]
