"""The pack's blueprints and its app on ComfyUI's page: found, run with what is set there, saved and opened again."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from support.page.comfy_page import ComfyPage

BLUEPRINTS = sorted(path.stem for path in (REPO_ROOT / "subgraphs").glob("*.json"))
APP = REPO_ROOT / "workflows" / "instruct_sd15.app.json"
LOADER, ENCODE, APPLY = "IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructApply"
SIDE = 128
PLACE = 700, 400
SEARCH = "() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')"
# A graph around the only node that there is.
SURROUND = """(side) => {
    const [one] = app.graph.nodes
    const add = (type, right, down) => {
        const node = LiteGraph.createNode(type)
        node.pos = [one.pos[0] + right, one.pos[1] + down]
        app.graph.add(node)
        node.setSize([320, 400])
        return node
    }
    const set = (node, values) => {
        for (const widget of node.widgets) if (widget.name in values) widget.value = values[widget.name]
    }
    const checkpoint = add('CheckpointLoaderSimple', -400, 0), picture = add('LoadImage', -400, 440)
    const latent = add('EmptyLatentImage', 0, 440), sampler = add('KSampler', 400, 0)
    const decoded = add('VAEDecode', 400, 440), saved = add('SaveImage', 800, 0)
    checkpoint.connect(0, one, 0)
    checkpoint.connect(1, one, 1)
    picture.connect(0, one, 2)
    for (const slot of [0, 1, 2]) one.connect(slot, sampler, slot)
    latent.connect(0, sampler, 3)
    sampler.connect(0, decoded, 0)
    checkpoint.connect(2, decoded, 1)
    decoded.connect(0, saved, 0)
    set(latent, { width: side, height: side })
    set(sampler, { steps: 1 })
    set(checkpoint, { ckpt_name: 'v1-5-pruned-emaonly-fp16.safetensors' })
}"""
SAVED = "() => JSON.stringify(app.graph.serialize())"
PROMPT = "async () => (await app.graphToPrompt()).output"


def kinds(prompt: dict) -> dict[str, dict]:
    """The inputs of each type of node, by the prompt that the page made."""
    return {node["class_type"]: node["inputs"] for node in prompt.values()}


@pytest.fixture
def blueprint(page: ComfyPage, name: str) -> str:
    """A blueprint found by the page's search and put into the graph; its node's type."""
    page.page.mouse.move(*PLACE)
    page.page.evaluate(SEARCH)
    page.settle()
    page.page.keyboard.type(name)
    found = page.page.get_by_text("Subgraph Blueprints").first
    found.wait_for()
    page.settle()
    page.page.keyboard.press("Enter")
    found.wait_for(state="hidden")  # else a slow list takes the click that follows
    page.settle()
    page.page.mouse.click(*PLACE)  # newer pages wait to be shown where
    page.settle()
    (node,) = page.nodes()
    assert node["title"] == name
    return node["type"]


@pytest.mark.spread("opened", "name", 2)
@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_runs_with_what_is_set_on_it_and_is_saved_again(
    page: ComfyPage, blueprint: str, name: str, tmp_path
):
    page.page.evaluate(SURROUND, SIDE)
    page.settle()
    page.set(blueprint, "prompt", "a ship")
    page.set(blueprint, "weight", 1)
    page.queue()
    page.show_all()
    page.screenshot(name)
    assert page.picture("SaveImage") == [SIDE, SIDE]
    assert page.dialogs() == []
    assert page.overflow() == []
    made = page.page.evaluate(PROMPT)
    assert (kinds(made)[ENCODE]["task"], kinds(made)[ENCODE]["prompt"]) == (name.split()[0].lower(), "a ship")
    assert kinds(made)[APPLY]["weight"] == 1
    saved = tmp_path / "saved.json"
    saved.write_text(page.page.evaluate(SAVED), encoding="utf-8")
    page.clear()
    page.drop_workflow(saved)
    assert page.missing_nodes() == []
    assert page.page.evaluate(PROMPT) == made


def test_the_app_runs_with_what_is_set_in_it_and_is_saved_as_an_app(page: ComfyPage, tmp_path: Path):
    page.drop_workflow(APP, as_app=True)
    panel = page.page.get_by_test_id("linear-widgets")
    if not panel.count():
        pytest.skip(f"front end {page.version()} has no apps; in test_workflow_runs it runs the graph")
    page.make_small(SIDE)
    page.screenshot("app")
    assert page.dialogs() == []
    panel.get_by_role("combobox", name="task").click()
    page.page.get_by_role("option", name="style", exact=True).click()
    panel.locator("textarea").fill("a ship in a bottle")
    page.queue(page.page.get_by_test_id("linear-run-button").get_by_role("button", name="Run", exact=True).click)
    made = page.page.get_by_test_id("linear-center-panel").locator("img").first
    made.wait_for()
    page.screenshot("app-run")
    assert made.evaluate("(one) => [one.naturalWidth, one.naturalHeight]") == [SIDE, SIDE]
    prompt = page.page.evaluate(PROMPT)
    assert (kinds(prompt)[ENCODE]["task"], kinds(prompt)[ENCODE]["prompt"]) == ("style", "a ship in a bottle")
    saved = tmp_path / "saved.json"
    saved.write_text(page.page.evaluate(SAVED), encoding="utf-8")
    page.clear()
    page.drop_workflow(saved, as_app=True)
    assert panel.locator("textarea").input_value() == "a ship in a bottle"
    assert page.page.evaluate(PROMPT) == prompt
