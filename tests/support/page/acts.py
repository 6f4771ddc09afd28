"""The acts of users on nodes, by the keys and commands of ComfyUI's page. Each waits until the graph shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Route

from support.page.comfy_page import ComfyPage
from support.page.scripts import HOLDS

STEPS = 5
FAMILY_ROUTE = "**/ipadapter_instruct/family*"
SELECT = """(type) => {
    app.canvas.deselectAll()
    app.canvas.selectItems(app.graph.nodes.filter((node) => !type || node.type === type))
    app.canvas.canvas.focus()
}"""
SELECT_SUBGRAPH = """() => {
    app.canvas.deselectAll()
    app.canvas.selectItems(app.graph.nodes.filter((node) => node.subgraph))
}"""
HAS_SUBGRAPH = "() => app.graph.nodes.some((node) => node.subgraph)"
SUBGRAPH_TYPE = "() => app.graph.nodes.find((node) => node.subgraph).type"
ENTER = """() => {
    const node = app.graph.nodes.find((node) => node.subgraph)
    app.canvas.openSubgraph(node.subgraph, node)
}"""
LEAVE = "() => app.canvas.setGraph(app.rootGraph)"
# As when the dot beside a widget is dragged onto the subgraph's inputs.
PROMOTE = """([type, name]) => {
    const { graph } = app.canvas
    const node = graph.nodes.find((one) => one.type === type)
    const slot = node.inputs.find((one) => one.widget?.name === name)
    graph.addInput(name, slot.type).connect(slot, node)
}"""
KEEP_WORKFLOWS = "() => app.extensionManager.setting.set('Comfy.Workflow.Persist', true)"
IS_KEPT = "() => [localStorage, sessionStorage].some((kept) => JSON.stringify(kept).includes('KSampler'))"
RUN = "(command) => app.extensionManager.command.execute(command)"
# What the acts change: which nodes there are, and whether they are muted, bypassed or folded.
LOOK = """() => app.graph.nodes
    .map((node) => [node.id, node.type, node.mode, !!node.flags.collapsed].join()).sort().join(';')"""
# The page notes a change for undo some time after a key.
NOTE = """async () => {
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
    const { changeTracker } = app.extensionManager.workflow.activeWorkflow
    changeTracker.captureCanvasState ? changeTracker.captureCanvasState() : changeTracker.checkState()
}"""
# Every node of the pack after some of ComfyUI's own, each input connected to the last node before that gives its type.
ADD_EVERY_NODE = """() => {
    const first = ['CheckpointLoaderSimple', 'CLIPVisionLoader', 'LoadImage', 'SolidMask',
        'IPAdapterInstructLoader', 'IPAdapterInstructEncode', 'IPAdapterInstructApply']
    const packs = Object.keys(LiteGraph.registered_node_types).filter((type) => type.startsWith('IPAdapterInstruct'))
    const nodes = [...new Set([...first, ...packs])].map((type) => LiteGraph.createNode(type))
    for (const [place, node] of nodes.entries()) {
        app.graph.add(node)
        for (const [slot, { type, widget }] of node.inputs.entries()) {
            const gives = (output) => output.type === type
            const giver = nodes.slice(0, place).findLast((one) => one.outputs.some(gives))
            if (giver && !widget) giver.connect(giver.outputs.findIndex(gives), node, slot)
        }
    }
}"""
REMOVE_ONE_BY_ONE = """async () => {
    for (const node of [...app.graph.nodes]) {
        app.graph.remove(node)
        await new Promise((done) => setTimeout(done))
    }
}"""
# A node's list, words, menu and events, called by what still held the node when it was removed.
CALL_AFTER_REMOVAL = """() => {
    for (const node of [...app.graph.nodes]) {
        const menu = app.collectNodeMenuItems(node)
        app.graph.remove(node)
        for (const widget of node.widgets ?? []) if (widget.type !== 'button') widget.callback?.(widget.value)
        for (const item of menu) if (item?.content === 'Recommended settings') item.callback()
        node.onConnectionsChange?.(1, 0, false, null, node.inputs[0])
        node.onConfigure?.(node.serialize())
    }
}"""


class Acts:
    """Acts on selected nodes, one after the other."""

    def __init__(self, page: ComfyPage, node_type: str | None):
        self.page = page
        self.node_type = node_type  # None for all nodes

    def look(self) -> str:
        return self.page.page.evaluate(LOOK)

    def select(self) -> None:
        self.page.page.evaluate(SELECT, self.node_type)

    def press(self, key: str) -> None:
        """Press a key that changes the graph."""
        before = self.look()
        self.page.page.keyboard.press(key)
        self.page.page.wait_for_function(f"(before) => ({LOOK})() !== before", arg=before)
        self.note()

    def note(self) -> None:
        """Have the page note what has changed, for undo."""
        self.page.page.evaluate(NOTE)

    def run(self, command: str) -> None:
        self.page.page.evaluate(RUN, command)

    def until(self, command: str, is_so: Callable[[], bool]) -> None:
        """Undo or redo until something is so: a size that the page adjusts is a step of its own."""
        for _ in range(STEPS):
            self.run(command)
            if is_so():
                return
        raise AssertionError(f"{command} did not lead there in {STEPS} steps, but to {self.look()}.")

    def back_to(self, look: str, command: str) -> None:
        self.until(command, lambda: self.look() == look)

    def once(self, key: str) -> None:
        """Press a key that changes what is selected."""
        self.select()
        self.press(key)

    def undo_and_redo(self, key: str) -> None:
        """Press a key that changes the graph, undo it, do it again, and undo it."""
        self.select()
        before = self.look()
        self.press(key)
        after = self.look()
        self.back_to(before, "Comfy.Undo")
        self.back_to(after, "Comfy.Redo")
        self.back_to(before, "Comfy.Undo")

    def delete(self) -> None:
        self.undo_and_redo("Delete")

    def make_subgraph(self) -> None:
        self.undo_and_redo("Control+Shift+e")

    def unpack(self) -> None:
        """Make a subgraph and take it apart again."""
        self.once("Control+Shift+e")
        self.page.page.evaluate(SELECT_SUBGRAPH)
        self.run("Comfy.Graph.UnpackSubgraph")
        assert not self.page.page.evaluate(HAS_SUBGRAPH)

    def mute_bypass_and_fold(self) -> None:
        self.select()
        for key in ("Control+m", "Control+b", "Alt+c"):
            self.press(key)

    def paste_in_place(self) -> None:
        """Paste a copy with its connections, and delete the original."""
        self.select()
        original = self.page.page.evaluate("() => [...app.canvas.selectedItems].map((node) => node.id)")
        self.page.page.keyboard.press("Control+c")
        self.press("Control+Shift+v")
        remove = "(ids) => { for (const id of ids) app.graph.remove(app.graph.getNodeById(id)) }"
        self.page.page.evaluate(remove, original)
        self.note()

    def copy_and_paste(self) -> None:
        """Paste what was copied, without and with its connections, and delete the latter."""
        self.select()
        self.page.page.keyboard.press("Control+c")
        for key in ("Control+v", "Control+Shift+v", "Delete"):
            self.press(key)


ACTS: tuple[Callable[[Acts], None], ...] = (
    Acts.delete,
    Acts.make_subgraph,
    Acts.mute_bypass_and_fold,
    Acts.copy_and_paste,
    Acts.unpack,
)


@contextmanager
def in_subgraph(page: ComfyPage) -> Iterator[None]:
    """While the only subgraph is open."""
    page.page.evaluate(ENTER)
    page.settle()
    yield
    page.page.evaluate(LEAVE)
    page.settle()


def promote(page: ComfyPage, node_type: str, name: str) -> str:
    """Promote a widget of a node in the only subgraph; the type of the subgraph's own node, which then has it."""
    with in_subgraph(page):
        page.page.evaluate(PROMOTE, [node_type, name])
    return page.page.evaluate(SUBGRAPH_TYPE)


def keep_workflows(page: ComfyPage) -> None:
    """Have the page keep the workflow that will be opened, as it does unless it is told not to."""
    page.page.evaluate(KEEP_WORKFLOWS)


def reload(page: ComfyPage) -> None:
    """Load the page anew, which brings back the workflow that was open."""
    ids = page.page.evaluate("() => app.graph.nodes.map((node) => String(node.id)).sort().join()")
    page.page.wait_for_function(IS_KEPT)
    page.page.reload()
    page.prepare()
    page.page.wait_for_function(HOLDS, arg=ids)
    page.settle()


@contextmanager
def unanswered(page: ComfyPage) -> Iterator[Callable[[], None]]:
    """While the server's answers about adapter files are held back; what is given lets them through."""
    waiting: list[Route] = []

    def answer() -> None:
        while waiting:
            waiting.pop().continue_()
        page.settle()

    page.page.route(FAMILY_ROUTE, lambda route: waiting.append(route))
    try:
        yield answer
    finally:
        page.page.unroute(FAMILY_ROUTE)
