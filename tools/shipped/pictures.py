"""Take the pictures workflows/*.jpg, and docs/encode_and_apply.jpg, from ComfyUI's newer page with small models.

PYTHONPATH=tools python -m shipped.pictures [NAME ...]
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from comfyhost.browser import chromium
from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import NEWER, ComfyServer, server_arguments
from comfyhost.standins import small_models, write_examples
from PIL import Image
from playwright.sync_api import Page

from shipped.__main__ import FOLDER
from shipped.recipes import RECIPES

CLOSE_UP = "encode_and_apply"  # the nodes that instruct, after a short run
CLOSE_UP_OF = "instruct_sd15"
CLOSE_UP_NODES = ("IPAdapterInstructEncode", "IPAdapterInstructApply")
CLOSE_UP_PATH = REPO_ROOT / "docs" / f"{CLOSE_UP}.jpg"
WINDOW = {"width": 2560, "height": 1500}
BARS = (180, 140, 120, 120)  # what the page's own bars take at the left, top, right and bottom
MARGIN = 12
LARGEST = (1200, 900)
QUALITY = 85
SETTLE = 2500
RUN_TIMEOUT = 120_000
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.Enabled": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler"
LOAD = "([name, workflow]) => app.loadGraphData(workflow, true, true, name)"
# The boxes [left, top, width, height] of the nodes of these types, or of everything.
BOXES = """(types) => [...app.graph.nodes, ...app.graph.groups]
    .filter((one) => !types.length || types.includes(one.type))
    .map((one) => [...(one.getBounding?.() ?? one.boundingRect)])"""
MOVE = """([scale, offset]) => {
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = offset
    app.canvas.setDirty(true, true)
}"""
ORIGIN = "() => { const box = app.canvas.canvas.getBoundingClientRect(); return [box.left, box.top] }"
SMALL_RUN = """async () => {
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) {
            const value = { steps: 1, width: 128, height: 128 }[widget.name]
            if (value && node.type !== 'LoadImage') widget.value = value
        }
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
            close_up = name == CLOSE_UP
            load(page, CLOSE_UP_OF if close_up else name)
            if close_up:
                page.set_default_timeout(RUN_TIMEOUT)
                page.evaluate(SMALL_RUN)
            path = CLOSE_UP_PATH if close_up else FOLDER / f"{name}.jpg"
            save(picture(page, CLOSE_UP_NODES if close_up else ()), path)
            say(str(path.relative_to(REPO_ROOT)))


def load(page: Page, name: str) -> None:
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    page.evaluate(LOAD, [name, workflow])
    page.wait_for_timeout(SETTLE)


def picture(page: Page, types: Sequence[str]) -> Image.Image:
    """Show the nodes of these types, or everything: moved into the free part of the window, and cut out of it."""
    boxes = page.evaluate(BOXES, list(types))
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    width = max(box[0] + box[2] for box in boxes) - left
    height = max(box[1] + box[3] for box in boxes) - top
    scale = min((WINDOW["width"] - BARS[0] - BARS[2]) / width, (WINDOW["height"] - BARS[1] - BARS[3]) / height)
    page.evaluate(MOVE, [scale, [BARS[0] / scale - left, BARS[1] / scale - top]])
    page.wait_for_timeout(SETTLE)
    x, y = page.evaluate(ORIGIN)
    clip = {
        "x": x + BARS[0] - MARGIN,
        "y": y + BARS[1] - MARGIN,
        "width": width * scale + 2 * MARGIN,
        "height": height * scale + 2 * MARGIN,
    }
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    image.thumbnail(LARGEST, Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: take(sys.argv[1:] or [*RECIPES, CLOSE_UP])))
