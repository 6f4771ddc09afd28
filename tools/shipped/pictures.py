"""Take the .jpg files in workflows/: each workflow as ComfyUI's newer page shows it, nothing run.

    PYTHONPATH=tools python -m shipped.pictures [NAME ...]
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

from comfyhost.browser import chromium
from comfyhost.frontend import NEWER, server_arguments
from comfyhost.install import say
from comfyhost.photo import write_photo
from comfyhost.places import ToolError, host
from comfyhost.server import ComfyServer
from comfyhost.small_models import small_models
from PIL import Image
from playwright.sync_api import Page

from shipped.__main__ import FOLDER
from shipped.recipes import RECIPES

WINDOW = {"width": 2560, "height": 1500}
WIDEST, HIGHEST = 1200, 900
QUALITY = 85
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.Enabled": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
}
SETTLE = 2500
SHOW = """async ([name, workflow]) => {
    await app.loadGraphData(workflow, true, true, name)
    app.canvas.deselectAll?.()
}"""
# Where the drawn nodes and groups lie in the window.
FRAME = """() => {
    const boxes = [...app.graph.nodes.map((node) => node.getBounding()), ...app.graph.groups.map((group) => group.boundingRect ?? group._bounding)]
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]))
    const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]))
    const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect()
    const margin = 12
    return {
        x: box.left + (left + ds.offset[0]) * ds.scale - margin, y: box.top + (top + ds.offset[1]) * ds.scale - margin,
        width: (right - left) * ds.scale + 2 * margin, height: (bottom - top) * ds.scale + 2 * margin,
    }
}"""
# Everything into the window, clear of the page's own bars.
FIT = """() => {
    const boxes = app.graph.groups.map((group) => group.boundingRect ?? group._bounding).concat(app.graph.nodes.map((node) => node.getBounding()))
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]))
    const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]))
    const { ds } = app.canvas
    ds.scale = Math.min((innerWidth - 300) / (right - left), (innerHeight - 260) / (bottom - top))
    ds.offset = [180 / ds.scale - left, 140 / ds.scale - top]
    app.canvas.setDirty(true, true)
}"""


def main() -> int:
    """Take the pictures asked for, else all."""
    try:
        take(sys.argv[1:] or list(RECIPES))
    except ToolError as error:
        say(f"error: {error}")
        return 1
    return 0


def take(names: list[str]) -> None:
    small = replace(host(), models=small_models())
    with ComfyServer(small, arguments=server_arguments(NEWER)) as server, chromium() as browser:
        write_photo(server.base / "input" / "example.png")
        page = browser.new_page(viewport=WINDOW)
        page.request.post(f"{server.url}/api/settings", data=SETTINGS)
        page.goto(server.url)
        page.wait_for_function("() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler")
        page.wait_for_timeout(SETTLE)
        for name in names:
            save(picture(page, FOLDER / f"{name}.json"), FOLDER / f"{name}.jpg")
            say(f"{name}.jpg")


def picture(page: Page, path: Path) -> Image.Image:
    """One workflow, cut out of the page."""
    page.evaluate(SHOW, [path.stem, json.loads(path.read_text(encoding="utf-8"))])
    page.evaluate(FIT)
    page.wait_for_timeout(SETTLE)
    return Image.open(io.BytesIO(page.screenshot(clip=page.evaluate(FRAME)))).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    image.thumbnail((WIDEST, HIGHEST), Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
