"""The acts of users around the nodes: undo, copies, subgraphs, apps, a reload, another tab, another workflow meanwhile.

Whatever it is, a task goes on doing its work, words of a run stand on the nodes that said them, and nothing is in the
console, which the `page` fixture sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from comfyhost.places import REPO_ROOT
from support.page.acts import Acts, in_subgraph, keep_workflows, promote, reload
from support.page.comfy_page import ComfyPage

SD15, SDXL = (REPO_ROOT / "workflows" / f"instruct_{family}.json" for family in ("sd15", "sdxl"))
ENCODE, APPLY = "IPAdapterInstructEncode", "IPAdapterInstructApply"
OWN, MARKED = "own words", "task (\N{WARNING SIGN} not a trained task)"
LEAVES_APP = re.compile("Enter node graph|Open Workflow")
SIDE = 128
STEPS = 40  # so many that something can be done while they run
SENT = """async () => Object.values((await app.graphToPrompt()).output)
    .find((node) => node.class_type === 'IPAdapterInstructEncode').inputs"""
SHOWN = """() => {
    const encode = app.canvas.graph.nodes.find((node) => node.type === 'IPAdapterInstructEncode')
    const [task, instruction] = ['task', 'instruction'].map((name) => encode.widgets.find((one) => one.name === name))
    return [task.label ?? task.name, instruction.value, !!instruction.disabled]
}"""


@pytest.fixture
def sd15(page: ComfyPage) -> ComfyPage:
    page.drop_workflow(SD15)
    return page


@pytest.fixture
def small(page: ComfyPage) -> Iterator[ComfyPage]:
    """A workflow that makes a small picture which was not made before; the page keeps it over a reload."""
    keep_workflows(page)
    open_small(page)
    yield page
    page.open()


def open_small(page: ComfyPage, path: Path = SD15) -> None:
    page.drop_workflow(path)
    make_a_new_one(page)


def make_a_new_one(page: ComfyPage) -> None:
    """Have the open workflow make a small picture that was not made before: nodes that are not run say nothing."""
    page.make_small(SIDE)
    page.set(ENCODE, "prompt", f"not made before, {uuid4()}")


def shows(page: ComfyPage, label: str, instruction: str, greyed: bool) -> None:
    """The Encode node shows this, within a while."""
    expected = [label, instruction, greyed]
    page.becomes(lambda: page.page.evaluate(SHOWN) == expected)
    assert page.page.evaluate(SHOWN) == expected


def says(page: ComfyPage, node_type: str, words: str) -> None:
    """The node shows these words, within a while."""
    page.becomes(lambda: words in page.text(node_type))
    assert words in page.text(node_type)


def sent(page: ComfyPage) -> tuple[str, str]:
    """The task and the instruction that a run would get."""
    inputs = page.page.evaluate(SENT)
    return inputs["task"], inputs["instruction"]


@pytest.mark.spread("opened", "act", 2)
@pytest.mark.parametrize("act", [Acts.delete, Acts.paste_in_place, Acts.make_subgraph, Acts.unpack])
def test_a_task_does_its_work_after(sd15: ComfyPage, act: Callable[[Acts], None]):
    sd15.set(ENCODE, "task", OWN)
    shows(sd15, "task", "use the composition", False)
    sd15.set(ENCODE, "instruction", "make it shine")
    shows(sd15, MARKED, "make it shine", False)
    acts = Acts(sd15, ENCODE)
    acts.note()
    act(acts)
    shows(sd15, MARKED, "make it shine", False)
    sd15.set(ENCODE, "task", "everything")  # which 1.32.9 lists where no other node covers it after all of these
    shows(sd15, "task", "use everything", True)
    assert sent(sd15) == ("everything", "use everything")
    sd15.set(ENCODE, "task", OWN)
    shows(sd15, MARKED, "make it shine", False)


def test_undo_takes_a_task_back_with_its_words(sd15: ComfyPage):
    sd15.set(ENCODE, "task", "face")
    shows(sd15, "task", "use the face", True)
    acts = Acts(sd15, ENCODE)
    acts.note()
    for command, task in (("Comfy.Undo", "composition"), ("Comfy.Redo", "face")):
        acts.until(command, lambda task=task: sd15.value(ENCODE, "task") == task)
        shows(sd15, "task", f"use the {task}", True)
        assert sent(sd15) == (task, f"use the {task}")


def test_a_task_does_its_work_in_a_subgraph_and_promoted_out_of_it(small: ComfyPage):
    Acts(small, ENCODE).once("Control+Shift+e")
    with in_subgraph(small):
        small.set(ENCODE, "task", "face")
        shows(small, "task", "use the face", True)
    outside = promote(small, ENCODE, "task")
    small.set(outside, "task", "pose")
    small.screenshot("promoted")
    small.queue()
    assert sent(small)[0] == "pose"
    with in_subgraph(small):
        says(small, ENCODE, "last run: instruction: trained on pose")
        assert not small.page.evaluate(SHOWN)[2]  # what is outside counts, and may be own words
        small.screenshot("in-subgraph")
    says(small, APPLY, "last run: guidance: three-way")


def test_an_app_does_the_same_work(page: ComfyPage, tmp_path: Path):
    """In 1.32.9 an app is a list of all widgets, in others those that it names."""
    page.drop_workflow(app_file(tmp_path), as_app=True)
    page.page.get_by_role("button", name=LEAVES_APP).wait_for()
    page.make_small(SIDE)
    page.page.get_by_role("combobox", name="task").click()
    page.page.get_by_role("option", name="face").click()
    page.page.locator("textarea:visible").first.fill(f"not made before, {uuid4()}")
    page.settle()
    page.screenshot("app")
    page.queue(page.page.get_by_role("button", name="Run", exact=True).click)
    page.screenshot("app-run")
    page.page.get_by_role("button", name=LEAVES_APP).click()
    page.settle()
    shows(page, "task", "use the face", True)
    assert sent(page) == ("face", "use the face")
    assert page.picture("SaveImage") == [SIDE, SIDE]
    assert "trained on face" in page.text(ENCODE)


def app_file(folder: Path) -> Path:
    """Write a workflow that opens as an app."""
    workflow = json.loads(SD15.read_text(encoding="utf-8"))
    numbers = {node["type"]: node["id"] for node in workflow["nodes"]}
    inputs = [[numbers[ENCODE], name] for name in ("task", "instruction", "prompt")]
    workflow["extra"] |= {"linearMode": True, "linearData": {"inputs": inputs, "outputs": [numbers["SaveImage"]]}}
    path = folder / "app.json"
    path.write_text(json.dumps(workflow), encoding="utf-8")
    return path


def sends_words_again(page: ComfyPage) -> bool:
    """Whether this ComfyUI gives a page that was loaded anew the words of nodes that a run does not run."""
    info = page.context.request.get(f"{page.url}/object_info/{APPLY}").json()
    return info[APPLY].get("has_intermediate_output", False)


def test_words_come_back_after_a_reload(small: ComfyPage):
    small.set(ENCODE, "task", "face")
    small.queue()
    reload(small)
    shows(small, "task", "use the face", True)
    small.queue()
    assert ("last run: guidance: simple" in small.text(APPLY)) == sends_words_again(small)
    small.set(ENCODE, "task", "pose")
    small.queue()
    says(small, APPLY, "last run: guidance: three-way")


def test_a_reload_during_a_run_does_no_harm(small: ComfyPage):
    begin_a_long_run(small)
    reload(small)
    wait_until_idle(small)
    small.make_small(SIDE)
    small.set(ENCODE, "task", "face")
    small.queue()
    says(small, APPLY, "last run: guidance: simple")
    assert small.picture("SaveImage") == [SIDE, SIDE]


def begin_a_long_run(page: ComfyPage) -> None:
    page.set("KSampler", "steps", STEPS)
    with page.page.expect_response("**/prompt"):
        page.press_run()
    assert page.becomes(lambda: bool(queue_of(page)["queue_running"]))


def wait_until_idle(page: ComfyPage) -> None:
    while any(queue_of(page).values()):
        page.settle()


def queue_of(page: ComfyPage) -> dict[str, list]:
    return page.context.request.get(f"{page.url}/queue").json()


def test_two_tabs_have_each_its_own_words(small: ComfyPage):
    with small.second_tab() as other:
        open_small(other)
        for tab, task in ((small, "face"), (other, "pose")):
            tab.page.bring_to_front()
            tab.set(ENCODE, "task", task)
            tab.queue()
        for tab, guidance in ((small, "simple"), (other, "three-way")):
            says(tab, APPLY, f"last run: guidance: {guidance}")
    small.page.bring_to_front()
    small.set(ENCODE, "task", "composition")
    small.queue()
    says(small, APPLY, "last run: guidance: three-way")


def test_a_workflow_opened_meanwhile_and_left_again_has_its_own_words(small: ComfyPage):
    small.set(ENCODE, "task", "face")
    small.queue(lambda: open_during_a_run(small))
    small.set(ENCODE, "task", "composition")
    make_a_new_one(small)
    small.queue()
    says(small, APPLY, "last run: guidance: three-way")
    Acts(small, None).run("Workspace.PreviousOpenedWorkflow")
    says(small, APPLY, "last run: guidance: simple")
    shows(small, "task", "use the face", True)


def open_during_a_run(page: ComfyPage) -> None:
    """Once it has said something: what comes while another workflow is open, 1.32.9 keeps for that one."""
    begin_a_long_run(page)
    says(page, APPLY, "last run: guidance: simple")
    page.drop_workflow(SDXL)
