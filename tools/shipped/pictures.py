"""Take the pictures workflows/*.jpg, and docs/encode_and_apply.jpg, from ComfyUI's newer page with small models.

PYTHONPATH=tools python -m shipped.pictures [NAME ...]    the last comes with instruct_sd15
"""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

from comfyhost.browser import chromium
from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import NEWER, ComfyServer, server_arguments
from comfyhost.standins import small_models, write_examples
from PIL import Image
from playwright.sync_api import FloatRect, Page

from shipped.__main__ import path_of
from shipped.recipes import EVERYWHERE

CLOSE_UP_OF = "instruct_sd15"  # the nodes that instruct, after a run
CLOSE_UP_NODES = ("IPAdapterInstructEncode", "IPAdapterInstructApply")
CLOSE_UP = REPO_ROOT / "docs" / "encode_and_apply.jpg"
WINDOW = {"width": 2560, "height": 1500}
APPS_WINDOW, APP = {"width": 1280, "height": 800}, FloatRect(x=56, y=38, width=1224, height=762)  # without the bars
BARS = (180, 140, 120, 120)  # what the page's own bars take at the left, top, right and bottom
SETTLE = 2500
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.OnboardingCoachmarks.Seen": ["appMode"],
    "Comfy.VueNodes.Enabled": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler"
LOAD = "([name, workflow]) => app.loadGraphData(workflow, true, true, name)"
# Moves nodes of these types, or everything, into the part of the window that the page's own bars leave free, and
# returns where they are.
SHOW = """([types, [left, top, right, bottom]]) => {
    const boxes = [...app.graph.nodes, ...app.graph.groups]
        .filter((one) => !types.length || types.includes(one.type))
        .map((one) => one.getBounding?.() ?? one.boundingRect)
    const x = Math.min(...boxes.map((box) => box[0])), y = Math.min(...boxes.map((box) => box[1]))
    const width = Math.max(...boxes.map((box) => box[0] + box[2])) - x
    const height = Math.max(...boxes.map((box) => box[1] + box[3])) - y
    const { canvas, ds } = app.canvas, at = canvas.getBoundingClientRect()
    ds.scale = Math.min((innerWidth - left - right) / width, (innerHeight - top - bottom) / height)
    ds.offset = [left / ds.scale - x, top / ds.scale - y]
    app.canvas.setDirty(true, true)
    const margin = 12
    return {
        x: at.left + left - margin, y: at.top + top - margin,
        width: width * ds.scale + 2 * margin, height: height * ds.scale + 2 * margin,
    }
}"""
RUN = """async () => {
    const ended = new Promise((done) => app.api.addEventListener('execution_success', done, { once: true }))
    await app.queuePrompt(0, 1)
    await ended
}"""


def take(names: list[str]) -> None:
    """Take the pictures of these workflows."""
    small = replace(host(), models=small_models())
    with ComfyServer(small, arguments=server_arguments(NEWER)) as server, chromium() as browser:
        write_examples(server.base)
        page = browser.new_page(viewport=WINDOW)
        page.request.post(f"{server.url}/api/settings", data=SETTINGS)
        page.goto(server.url)
        page.wait_for_function(READY)
        page.wait_for_timeout(SETTLE)
        for name in names:
            workflow = json.loads(path_of(name).read_text(encoding="utf-8"))
            is_app = "linearMode" in workflow["extra"]
            page.set_viewport_size(APPS_WINDOW if is_app else WINDOW)
            page.evaluate(LOAD, [name, workflow])
            page.wait_for_timeout(SETTLE)
            save(page, path_of(name).with_suffix(".jpg"), APP if is_app else page.evaluate(SHOW, [[], BARS]))
            if name == CLOSE_UP_OF:
                page.evaluate(RUN)
                save(page, CLOSE_UP, page.evaluate(SHOW, [CLOSE_UP_NODES, BARS]))


def save(page: Page, path: Path, clip: FloatRect) -> None:
    """Take a picture of a part of the window."""
    page.wait_for_timeout(SETTLE)
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    image.thumbnail((1200, 900), Image.Resampling.LANCZOS)
    image.save(path, quality=85, optimize=True)
    say(str(path.relative_to(REPO_ROOT)))


if __name__ == "__main__":
    sys.exit(exit_code(lambda: take(sys.argv[1:] or EVERYWHERE)))
