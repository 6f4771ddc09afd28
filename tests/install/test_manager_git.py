"""ComfyUI-Manager's command line takes the pack through its whole life, from its git address."""

from __future__ import annotations

import filecmp
import json

from comfyhost.places import REPO_ROOT

FOLDER = "ComfyUI-IPAdapter-Instruct"
NODES = json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8"))
SCRIPTS = {f"/extensions/{FOLDER}/{path.relative_to(REPO_ROOT / 'js')}" for path in REPO_ROOT.glob("js/**/*.js")}
TEMPLATES = {path.stem for path in REPO_ROOT.glob("workflows/*.json")}


def test_an_installed_pack_has_its_nodes_scripts_and_templates_under_the_repositorys_name(cloned, seen_by_a_page):
    seen = seen_by_a_page(cloned)
    assert {name: node["description"] for name, node in seen.nodes.items()} == NODES
    assert {node["python_module"] for node in seen.nodes.values()} == {f"custom_nodes.{FOLDER}"}
    assert seen.scripts == SCRIPTS
    assert {folder: set(names) for folder, names in seen.templates.items()} == {FOLDER: TEMPLATES}


def test_installing_asks_for_open_clip_alone_and_leaves_every_package_and_torchs_files_as_they_were(clean, repository):
    packages, torch = clean.packages(), clean.torch()
    assert packages["torch"] in torch
    said = clean.manager("install", repository.address)
    assert "open_clip_torch" in said
    assert clean.packages() == packages
    assert clean.torch() == torch


def test_an_install_script_would_be_run(clean, repository):
    (repository.folder / "install.py").write_text("print()\n", encoding="utf-8")
    repository.commit()
    assert "install.py" in clean.manager("install", repository.address)


def test_an_update_brings_the_next_commit(cloned, repository):
    commit = repository.set_version("90.0.0")
    assert "90.0.0" not in (cloned.custom_nodes / FOLDER / "pyproject.toml").read_text(encoding="utf-8")
    cloned.manager("update", FOLDER)
    installed = cloned.custom_nodes / FOLDER
    assert 'version = "90.0.0"' in (installed / "pyproject.toml").read_text(encoding="utf-8")
    assert (installed / ".git" / "refs" / "heads" / "main").read_text().strip() == commit


def test_a_disabled_pack_has_no_nodes_and_is_whole_when_it_is_enabled_again(cloned, repository, seen_by_a_page):
    cloned.manager("disable", FOLDER)
    assert cloned.packs() == []
    seen = seen_by_a_page(cloned)
    assert (seen.nodes, seen.scripts, seen.templates) == ({}, set(), {})
    cloned.manager("enable", FOLDER)
    assert cloned.packs() == [FOLDER]
    compared = filecmp.dircmp(cloned.custom_nodes / FOLDER, repository.folder, ignore=[".git"])
    assert (compared.left_only, compared.right_only, compared.diff_files) == ([], [], [])


def test_a_removed_pack_leaves_nothing_behind(cloned, seen_by_a_page):
    cloned.manager("uninstall", FOLDER)
    assert cloned.packs() == []
    assert list(cloned.folder.rglob("*Instruct*")) == []
    seen = seen_by_a_page(cloned)
    assert (seen.nodes, seen.scripts, seen.templates) == ({}, set(), {})
