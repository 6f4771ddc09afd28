"""The texts in locales/: English is the schema's own, the other languages lack nothing and add nothing."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from comfyhost.places import REPO_ROOT

FOLDER = REPO_ROOT / "locales"
LANGUAGES = sorted(path.name for path in FOLDER.iterdir())
TRANSLATED = [language for language in LANGUAGES if language != "en"]
SYNTAX = re.compile(r"[{}@|]")  # what the page's translations would read as more than text
SCRIPTS = {"ko": r"[\uac00-\ud7a3]", "ja": r"[\u3040-\u30ff]", "zh": r"[\u4e00-\u9fff]"}


def read(language: str, name: str) -> dict:
    return json.loads((FOLDER / language / f"{name}.json").read_text(encoding="utf-8"))


def leaves(tree: dict | str, path: tuple = ()) -> dict[tuple, str]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: text for name, branch in tree.items() for key, text in leaves(branch, (*path, name)).items()}


def english(info: dict) -> dict:
    """A node's texts as its schema has them."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": options["tooltip"]} for name, (_, options) in inputs.items()},
        "outputs": {str(i): {"name": name, "tooltip": tooltip} for i, (name, tooltip) in enumerate(outputs)},
    }


def test_english_is_what_the_nodes_say_themselves(object_info):
    ours = {kind: english(info) for kind, info in object_info.items() if kind.startswith("IPAdapterInstruct")}
    assert read("en", "nodeDefs") == ours


def test_english_texts_of_the_page_are_those_of_its_script():
    script = (REPO_ROOT / "js" / "ipadapter_instruct.js").read_text(encoding="utf-8")
    (body,) = re.findall(r"const TEXTS = \{(.*?)\n\}", script, re.DOTALL)
    assert dict(re.findall(r"(\w+): '(.*?)',?\n", body + "\n")) == read("en", "main")["ipadapterInstruct"]


def test_there_are_at_least_four_languages():
    assert {"en", "ko", "zh", "ja"} <= set(LANGUAGES)


@pytest.mark.parametrize("name", ["nodeDefs", "main"])
@pytest.mark.parametrize("language", TRANSLATED)
def test_a_language_has_every_text_and_no_other(language, name):
    assert leaves(read(language, name)).keys() == leaves(read("en", name)).keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_holds_signs_that_the_page_would_interpret(language):
    for name in ("nodeDefs", "main"):
        for path, text in leaves(read(language, name)).items():
            assert text.strip(), path
            assert not SYNTAX.search(text), path


@pytest.mark.parametrize("language", TRANSLATED)
def test_tooltips_and_descriptions_are_in_the_language(language):
    for path, text in leaves(read(language, "nodeDefs")).items():
        if path[-1] in ("tooltip", "description"):
            assert re.search(SCRIPTS[language], text), path


def test_the_server_hands_them_out(server):
    with urllib.request.urlopen(f"{server.url}/i18n") as response:
        assert json.loads(response.read())["ko"]["nodeDefs"] == read("ko", "nodeDefs")
