"""The page's words about model files that are not there: a dialog in 1.32, a tab of the side panel in 1.58."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Locator, Page

COPY_LINK = 'button[aria-label="Copy URL"]'


@dataclass(frozen=True)
class MissingModel:
    """A row of the list: the file, the address it offers, and whether it offers to download it."""

    name: str
    link: str
    downloadable: bool


def missing_models(page: Page) -> list[MissingModel]:
    """The rows, in alphabetical order. The list must be there, or come within Playwright's usual time."""
    overlay = page.get_by_test_id("error-overlay")
    dialog = page.locator(".comfy-missing-models")
    overlay.or_(dialog).wait_for()
    found = in_dialog(dialog) if dialog.count() else in_panel(page)
    return sorted(found, key=lambda model: model.name)


def in_dialog(dialog: Locator) -> list[MissingModel]:
    """1.32: rows "folder / file"; the download button has the address as its title, and is dead for .bin."""
    return [in_row(row) for row in dialog.get_by_role("option").all()]


def in_row(row: Locator) -> MissingModel:
    button = row.get_by_role("button", name="Download")
    name = row.locator("span[title]").first.inner_text().split(" / ")[1]
    return MissingModel(name, button.get_attribute("title"), button.is_enabled())


def in_panel(page: Page) -> list[MissingModel]:
    """1.58: an overlay leads to the list; a button of each row copies the address of the file's page."""
    page.get_by_test_id("error-overlay-see-errors").click()
    page.locator(COPY_LINK).first.wait_for()
    return [in_panel_row(page, button) for button in page.locator(COPY_LINK).all()]


def in_panel_row(page: Page, copy: Locator) -> MissingModel:
    row = copy.locator("xpath=ancestor::div[contains(@class, 'min-h-8')][1]")
    copy.click()
    link = page.evaluate("() => navigator.clipboard.readText()")
    name = row.locator("[title]").first.get_attribute("title")
    return MissingModel(name, link, row.get_by_test_id("missing-model-download").count() == 1)
