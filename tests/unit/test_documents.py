"""The pages for readers: links lead somewhere, lists are whole, and messages that are explained are the code's."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from shipped import node_index

DOCS, HELP = REPO_ROOT / "docs", REPO_ROOT / "js" / "docs"
PAGES = sorted(page.relative_to(REPO_ROOT).as_posix() for at in (REPO_ROOT, DOCS, HELP) for page in at.glob("*.md"))
MOST_WORDS = {"README.md": 1_400, "CONTRIBUTING.md": 700}
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"`[^`\n]*`|^ {4,}.*$", re.MULTILINE)
ITALIC = re.compile(r"(?<!\*)\*([^*]+)\*(?!\*)")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The links and pictures in a page's text that lead to nothing in the repository, or to no heading."""
    links = [one or other for one, other in LINK.findall(CODE.sub("", text))]
    return [link for link in links if not re.match(r"\w+:", link) and not leads_somewhere(page, *link.partition("#"))]


def leads_somewhere(page: Path, name: str, _: str, anchor: str) -> bool:
    target = (page.parent / name).resolve() if name else page
    return target.exists() and target.is_relative_to(REPO_ROOT) and (not anchor or anchor in anchors(target))


def sayings() -> str:
    """Every text in the pack's code, without the values in it."""
    files, texts = [path for at in ("models", "nodes", "commands") for path in (REPO_ROOT / at).rglob("*.py")], []
    for node in (node for file in (REPO_ROOT / "__init__.py", *files) for node in ast.walk(ast.parse(read(file)))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts.append("\0".join(str(getattr(part, "value", "")) for part in parts if isinstance(part, ast.Constant)))
    return "\n".join(texts)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_to_a_file_and_a_heading(page):
    assert broken(REPO_ROOT / page, read(REPO_ROOT / page)) == []


@pytest.mark.parametrize("link", ["gone.md", "docs/gone.png", "README.md#gone", "../outside.md"])
def test_a_broken_link_would_be_seen(link):
    assert broken(REPO_ROOT / "README.md", f'[a](LICENSE) [a]({link}) <img src="{link}">') == [link, link]


@pytest.mark.parametrize("page", MOST_WORDS)
def test_a_page_for_newcomers_is_short(page):
    assert len(read(REPO_ROOT / page).split()) <= MOST_WORDS[page]


def test_the_lists_of_nodes_and_of_workflows_are_whole():
    assert read(node_index.PAGE) == node_index.page()
    assert sorted(re.findall(r"js/docs/(\w+)\.md", node_index.page())) == sorted(
        page.stem for page in HELP.glob("*.md")
    )
    listed = re.findall(r"\.\./workflows/([\w.]+)\.json", read(DOCS / "workflows.md"))
    assert sorted(listed) == sorted(file.stem for file in (REPO_ROOT / "workflows").glob("*.json"))


def test_a_help_page_begins_with_its_nodes_name():
    texts = json.loads(read(REPO_ROOT / "locales" / "en" / "nodeDefs.json"))
    first_lines = {page.stem: read(page).split("\n", 1)[0] for page in HELP.glob("*.md")}
    assert first_lines == {node: f"# {words['display_name']}" for node, words in texts.items()}


def test_messages_that_are_explained_are_said_by_the_code():
    rows = re.findall(r"^\| (.+?) \| ", read(DOCS / "troubleshooting.md"), re.MULTILINE)
    pieces = {piece.strip(" .,;") for row in rows for text in ITALIC.findall(row) for piece in text.split("...")}
    said = sayings()
    assert len(pieces) > 100 and [piece for piece in pieces if piece not in said] == []
