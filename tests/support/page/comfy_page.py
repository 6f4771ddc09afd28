"""ComfyUI's page in a real browser, driven as a user drives it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comfyhost.places import REPO_ROOT
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage

from support.page import scripts as script
from support.page.errors import PageError, is_hosts_own, packs_own
from support.page.widgets import CanvasWidgets, VueWidgets
from support.patience import PATIENCE

SCREENSHOTS = REPO_ROOT / "output" / "screenshots"
WINDOW = {"width": 1280, "height": 800}
TIMEOUT = PATIENCE * 1000  # of a load or a run
ANSWER_TIMEOUT = 120_000  # of anything else
SETTLE_TIME = 500
# No first-run tour and no news; words at every zoom and nothing above them, for the pictures. Each version takes
# the settings that it knows.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.OnboardingCoachmarks.Seen": ["appMode"],
    "Comfy.Workflow.Persist": False,  # or the last graph comes back some time after a reload
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}


def new_window(browser: Browser) -> BrowserContext:
    context = browser.new_context(viewport=WINDOW, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(ANSWER_TIMEOUT)
    context.set_default_navigation_timeout(TIMEOUT)
    context.add_init_script(script.SEEN_BANNERS)
    return context


class ComfyPage:
    """A tab with ComfyUI's page. `errors` collects what its console reports, but for what the host makes itself.

    That is every error, every exception and rejected promise that nothing caught, and the pack's own warnings.
    """

    def __init__(self, browser: Browser, url: str, vue_nodes: bool, context: BrowserContext | None = None):
        self.browser = browser
        self.url = url
        self.vue_nodes = vue_nodes
        self.errors: list[PageError] = []
        self.context = context or new_window(browser)
        self.page = self.context.new_page()
        self.page.on("console", self.take_message)
        self.page.on("pageerror", lambda error: self.take(PageError(f"not caught: {error.stack or error}")))
        self.devtools = self.context.new_cdp_session(self.page)
        self.devtools.on("Runtime.consoleAPICalled", self.take_call)
        self.devtools.send("Runtime.enable")
        self.widgets = VueWidgets(self.page) if vue_nodes else CanvasWidgets(self.page)

    def close(self) -> None:
        self.context.close()

    @contextmanager
    def second_tab(self) -> Iterator[ComfyPage]:
        """The page once more in the same window, which shares what it keeps in the browser."""
        tab = ComfyPage(self.browser, self.url, self.vue_nodes, self.context)
        try:
            tab.open()
            yield tab
            tab.check()
        finally:
            tab.page.close()

    def take_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.take(PageError(message.text, message.location.get("url", "")))

    def take_call(self, call: dict) -> None:
        found = packs_own(call)
        if found:
            self.errors.append(found)

    def take(self, error: PageError) -> None:
        if not is_hosts_own(error):
            self.errors.append(error)

    def check(self, act: str = "") -> None:
        """Nothing went wrong in the browser since the last check, in what was put off included."""
        self.page.evaluate(script.NEXT_TURN)
        errors, self.errors[:] = list(self.errors), []
        assert not errors, f"the browser's console {act}: " + "\n".join(dict.fromkeys(map(str, errors)))

    def open(self, locale: str = "en") -> None:
        """Load the page with an empty graph, in the renderer and the language asked for."""
        settings = {**SETTINGS, "Comfy.VueNodes.Enabled": self.vue_nodes, "Comfy.Locale": locale}
        answer = self.context.request.post(f"{self.url}/api/settings", data=settings)
        assert answer.ok, f"ComfyUI did not take the settings: {answer.status} {answer.text()}"
        self.page.goto(self.url)
        self.prepare()
        self.clear()

    def prepare(self) -> None:
        """Wait until a page that is being loaded is ready."""
        self.page.wait_for_function(script.READY, timeout=TIMEOUT)
        self.page.evaluate(script.COUNT_ENDS)
        self.page.evaluate(script.WARN_EACH_TIME)

    def clear(self) -> None:
        """A new, empty workflow, and no other one open."""
        self.page.evaluate(script.NEW_WORKFLOW)
        self.page.wait_for_function(script.IS_EMPTY)
        self.page.evaluate(script.CLOSE_OTHERS)

    def version(self) -> str:
        return self.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")

    def drop_workflow(self, path: Path, as_app: bool = False) -> None:
        """Drop a workflow's file onto the canvas and wait until the graph holds its nodes.

        as_app: leave it in app mode, if that is how the page opens it.
        """
        text = path.read_text(encoding="utf-8")
        self.page.evaluate(script.DROP, [path.name, text, "application/json"])
        ids = ",".join(sorted(str(node["id"]) for node in json.loads(text)["nodes"]))
        self.page.wait_for_function(script.HOLDS, arg=ids)
        self.settle()
        if not as_app:
            self.page.evaluate(script.LEAVE_APP)

    def settle(self) -> None:
        """Wait until the page has drawn what it knows, dialogs included."""
        self.page.wait_for_timeout(SETTLE_TIME)

    def becomes(self, is_so: Callable[[], bool]) -> bool:
        """Whether something is so, sooner or later: a busy machine's page takes its time."""
        self.settle()
        end = time.monotonic() + ANSWER_TIMEOUT / 1000
        while not (so := is_so()) and time.monotonic() < end:
            self.settle()
        return so

    def nodes(self) -> list[dict]:
        """The nodes: id, type, title, pos, size, widgets (name -> value)."""
        return self.page.evaluate(script.NODES)

    def node(self, node_type: str) -> dict:
        """The only node of its type."""
        (found,) = (node for node in self.nodes() if node["type"] == node_type)
        return found

    def links(self) -> list[list[int]]:
        """The links: id, from node, from slot, to node, to slot."""
        return sorted(self.page.evaluate(script.LINKS))

    def prompt(self) -> dict[str, dict]:
        """The prompt that a run would send to the server: nodes by their ids."""
        return without_titles(self.page.evaluate(script.PROMPT))

    def expected_prompt(self, workflow: dict) -> dict[str, dict]:
        """The prompt that a run of a file would send to the server, by the pack's own reader of workflows."""
        object_info = self.context.request.get(f"{self.url}/object_info").json()
        return without_titles(to_prompt(workflow, object_info))

    def missing_nodes(self) -> list[str]:
        """The types of nodes that the page does not know."""
        return self.page.evaluate(script.UNKNOWN)

    def value(self, node_type: str, name: str) -> object:
        """A widget's value."""
        return self.node(node_type)["widgets"][name]

    def set(self, node_type: str, name: str, value: object) -> None:
        """Give a widget a value by mouse and keyboard."""
        self.widgets.set(self.node(node_type)["id"], name, value)

    def text(self, node_type: str) -> str:
        """The words that the node shows."""
        return self.widgets.text(self.node(node_type)["id"])

    def picture(self, node_type: str) -> list[int] | None:
        """The size of the picture that the node shows, None when it shows none within a while."""
        return self.picture_of(self.node(node_type)["id"])

    def picture_of(self, node_id: int) -> list[int] | None:
        def size() -> list[int] | None:
            return self.widgets.picture(node_id)

        return size() if self.becomes(lambda: bool((size() or [0])[0])) else None

    def make_small(self, side: int) -> None:
        """Have the open workflow make small pictures in one step."""
        self.page.evaluate(script.SMALL, side)

    def queue(self, start: Callable[[], None] | None = None) -> dict:
        """Press Run, or `start` a run, and wait for its end; the prompt's entry in the server's history."""
        ended = self.page.evaluate("() => window.endedRuns.length")
        start() if start else self.press_run()
        self.page.wait_for_function("(ended) => window.endedRuns.length > ended", arg=ended, timeout=TIMEOUT)
        kind, detail = self.page.evaluate("() => window.endedRuns.at(-1)")
        assert kind == "execution_success", f"The run ended with {kind}: {detail}"
        self.settle()
        prompt_id = detail["prompt_id"]
        return self.context.request.get(f"{self.url}/history/{prompt_id}").json()[prompt_id]

    def press_run(self) -> None:
        self.page.get_by_test_id("queue-button").get_by_text("Run").click()

    def show_all(self) -> None:
        """Zoom so that the whole graph is seen."""
        self.page.evaluate(script.SHOW_ALL)
        self.settle()

    def select(self, node_type: str) -> None:
        """Click the node's title."""
        x, y = self.page.evaluate(script.TITLE_AT, self.node(node_type)["id"])
        self.page.wait_for_timeout(300)
        self.page.mouse.click(x, y)

    def add_node(self, node_type: str) -> None:
        """Put a node of this type into the graph."""
        self.page.evaluate(script.ADD_NODE, node_type)
        self.settle()

    def help(self, node_type: str) -> str:
        """Select the node, press the info button above it, and read what is shown."""
        self.select(node_type)
        self.page.get_by_test_id("info-button").click()
        shown = self.page.locator(".node-help-content")
        shown.locator("h1, h2, p, li").first.wait_for()
        return shown.inner_text()

    def dialogs(self) -> list[str]:
        """The texts of dialogs, messages and error overlays that are open."""
        found = self.page.locator(
            '[role="dialog"], [role="alertdialog"], [data-testid="error-overlay"], .p-toast-message'
        )
        return [one.inner_text() for one in found.all() if one.is_visible()]

    def overflow(self) -> list[str]:
        """The parts that stick out of the window or of their node."""
        checks = [script.STICKS_OUT] if self.vue_nodes else [script.STICKS_OUT, script.COVERS, script.TOO_SMALL]
        return [found for check in checks for found in self.page.evaluate(check)]

    def screenshot(self, name: str) -> Path:
        """A picture of the page in output/screenshots, named for front end, renderer and `name`."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        renderer = "vue" if self.vue_nodes else "canvas"
        path = SCREENSHOTS / f"{self.version()}-{renderer}-{name}.png"
        self.page.screenshot(path=path)
        return path


def without_titles(prompt: dict[str, dict]) -> dict[str, dict]:
    return {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in prompt.items()}


def words(text: str) -> str:
    """A text's letters and digits: as markdown and as shown, it is the same then. Addresses of links are dropped."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"\]\([^)]*\)", " ", text)).split())


def lines_of(path: Path) -> list[str]:
    """The lines of a markdown page, as words."""
    found = (words(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in found if line]
