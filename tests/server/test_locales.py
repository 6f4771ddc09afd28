"""The texts in locales/: English is the schema's own, the other languages lack nothing and add nothing.

`tests/data/translated-from.json` holds the English that the other languages were last compared with. Whoever changes an
English text looks at its translations, and then copies locales/en/nodeDefs.json there.
"""

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
FIXED = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?|\w+(?:[/.]\w+)+|\.\w+(?:\.\w+)+|#\w+")  # numbers, files, colours
TRANSLATED_FROM = REPO_ROOT / "tests" / "data" / "translated-from.json"
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
    (body,) = re.findall(r"const texts = \{(.*?)\n\}", script, re.DOTALL)
    assert dict(re.findall(r"(\w+): '(.*?)',?\n", body + "\n")) == read("en", "main")["ipadapterInstruct"]


def test_there_are_at_least_four_languages():
    assert {"en", "ko", "zh", "ja"} <= set(LANGUAGES)


@pytest.mark.parametrize("name", ["nodeDefs", "main"])
@pytest.mark.parametrize("language", TRANSLATED)
def test_a_language_has_every_text_and_no_other(language, name):
    assert leaves(read(language, name)).keys() == leaves(read("en", name)).keys()


def test_no_english_text_has_changed_since_it_was_translated():
    now, then = leaves(read("en", "nodeDefs")), leaves(json.loads(TRANSLATED_FROM.read_text(encoding="utf-8")))
    assert {path: text for path, text in now.items() if then.get(path) != text} == {}


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_the_numbers_files_and_options_of_the_english(language, object_info):
    translation = leaves(read(language, "nodeDefs"))
    for path, text in leaves(read("en", "nodeDefs")).items():
        inputs = object_info[path[0]]["input"]
        combos = [options for group in inputs.values() for options in map(options_of, group.values()) if options]
        named = {option for options in combos for option in options if f"{option}: " in text}
        assert [word for word in {*FIXED.findall(text), *named} if word not in translation[path]] == [], path


def options_of(definition: list) -> list[str]:
    """A combo's options, in either form of ComfyUI's; of other inputs none."""
    kind, *more = definition
    return kind if isinstance(kind, list) else (more[0].get("options", []) if kind == "COMBO" else [])


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
