"""`python cli.py`: what it offers, and how it says what is wrong, whichever command it runs."""

import re

import pytest
from comfyhost.places import REPO_ROOT
from support.command_line import install, run

SHARED = {"__init__", "servers"}  # what is no command
COMMANDS = sorted({path.stem for path in (REPO_ROOT / "commands").glob("[!_]*")} - SHARED)
NO_PACKAGES = ("-S",)  # a python without any that is installed, torch above all


@pytest.fixture
def script(tmp_path):
    return install(tmp_path)


def test_the_help_names_every_command_at_once(script):
    code, output, errors = run(script, "--help", flags=NO_PACKAGES)
    assert (code, errors) == (0, "")
    assert "    python custom_nodes/ipadapter-instruct/cli.py download sd15" in output
    assert [command for command in COMMANDS if not re.search(rf"^    {command}\s", output, re.MULTILINE)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_with_an_example_before_anything_is_loaded(script, command):
    code, output, errors = run(script, command, "--help", flags=NO_PACKAGES)
    assert (code, errors) == (0, "")
    assert f"    python custom_nodes/ipadapter-instruct/cli.py {command} " in output
    assert "default: None" not in output
    explained = re.findall(r"^  (-.+?)(?:  |\n)\s*(\S.*)$", output, re.MULTILINE)
    assert [option for option, words in explained if words.startswith("-")] == []
    assert max(map(len, output.splitlines())) <= 120


def test_without_a_command_it_says_which_there_are(script):
    code, _, errors = run(script)
    assert code == 2
    assert "COMMAND" in errors


@pytest.mark.parametrize("arguments", [("download", "sd15"), ("convert", "adapter.bin")], ids=lambda given: given[0])
def test_another_python_than_comfyuis_is_told_apart(script, arguments):
    (script.parents[2] / "models").mkdir()
    code, _, errors = run(script, *arguments, flags=NO_PACKAGES)
    assert code == 1
    assert errors.startswith("error: ")
    assert errors.endswith("Run this command with the python that runs ComfyUI.\n")


def test_a_wrong_input_is_said_in_a_sentence(script, tmp_path):
    code, _, errors = run(script, "convert", tmp_path / "none.bin")
    assert code == 1
    assert errors.startswith("error: ")
