"""Widgets used as a user does, with mouse and keyboard: drawn on the canvas, or as Vue nodes."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, TimeoutError

from support.page.scripts import DRAWN_PICTURE, DRAWN_TEXT, TITLE_AT, WIDGET_AT, WIDGET_ELEMENT, WIDGET_KIND


class CanvasWidgets:
    """Widgets that the page draws on its canvas; texts of several lines are elements above it."""

    def __init__(self, page: Page):
        self.page = page

    def set(self, node_id: int, name: str, value: object) -> None:
        x, y = self.page.evaluate(WIDGET_AT, [node_id, name])
        if self.page.evaluate(WIDGET_KIND, [node_id, name]) == "element":
            self.page.evaluate_handle(WIDGET_ELEMENT, [node_id, name]).as_element().fill(str(value))
            return
        self.page.wait_for_timeout(100)  # a frame, so that the page knows where it drew the widget
        if self.page.evaluate(WIDGET_KIND, [node_id, name]) == "combo":
            self.opened_at(x, y, ".litecontextmenu .litemenu-entry").get_by_text(str(value), exact=True).click()
            return
        asked = self.opened_at(x, y, ".graphdialog input, .graphdialog textarea")
        asked.fill(str(value))
        asked.press("Enter")

    def opened_at(self, x: float, y: float, selector: str) -> Locator:
        """Click, and once more where a busy page has lost that, until what it opens is there."""
        opened = self.page.locator(selector)
        self.page.mouse.click(x, y)
        try:
            opened.first.wait_for(timeout=5_000)
        except TimeoutError:
            self.page.mouse.click(x, y)
        return opened

    def text(self, node_id: int) -> str:
        """The words that the node shows, brought into view."""
        self.page.evaluate(TITLE_AT, node_id)
        self.page.wait_for_timeout(100)
        return self.page.evaluate(DRAWN_TEXT, node_id)

    def picture(self, node_id: int) -> list[int] | None:
        """The size of the picture on the node."""
        return self.page.evaluate(DRAWN_PICTURE, node_id)


class VueWidgets:
    """Widgets that are elements of a Vue node."""

    def __init__(self, page: Page):
        self.page = page

    def node(self, node_id: int) -> Locator:
        return self.page.locator(f'[data-node-id="{node_id}"]')

    def set(self, node_id: int, name: str, value: object) -> None:
        self.page.evaluate(WIDGET_AT, [node_id, name])
        self.page.wait_for_timeout(100)
        labels = f':is([aria-label="{name}"], [aria-label^="{name} ("])'  # the pack may add a remark to a label
        combo = self.node(node_id).locator(f'[role="combobox"]{labels}')
        if combo.count():
            combo.click()
            option = self.page.get_by_role("option", name=str(value), exact=True)
            option.click()
            try:
                option.wait_for(state="hidden", timeout=5_000)
            except TimeoutError:  # the page loses a click on a list that is still opening
                option.click()
                option.wait_for(state="hidden")
            return
        field = self.field(node_id, name)
        field.click(force=True)  # 1.58 has a handle for dragging numbers above it, which passes clicks on
        field.press("Control+a")
        self.page.keyboard.type(str(value))
        self.page.keyboard.press("Tab")

    def field(self, node_id: int, name: str) -> Locator:
        """The input of a number or text; the front ends name it differently."""
        kinds = ":is(input, textarea)"
        ways = (
            f'[data-widget-name="{name}"] {kinds}',
            f'{kinds}[aria-label="{name}"]',
            f'{kinds}[placeholder="{name}"]',
            f'[aria-label="{name}"] {kinds}',
            f'label:text-is("{name}") ~ {kinds}',
        )
        return self.node(node_id).locator(", ".join(ways)).first

    def text(self, node_id: int) -> str:
        """The words that the node shows, the contents of its fields included."""
        node = self.node(node_id)
        fields = node.locator("input, textarea").evaluate_all("(all) => all.map((one) => one.value)")
        return "\n".join([node.inner_text(), *fields])

    def picture(self, node_id: int) -> list[int] | None:
        """The size of the picture on the node."""
        sizes = (
            self.node(node_id)
            .locator("img")
            .evaluate_all("(all) => all.map((one) => [one.naturalWidth, one.naturalHeight])")
        )
        return next((size for size in sizes if size[0]), None)
