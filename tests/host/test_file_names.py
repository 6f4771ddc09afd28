"""Files chosen by name: either system's separator, names that are no longer there, and what the host lets through."""

import asyncio
import os

import execution
import folder_paths
import pytest
from ipadapter_instruct.models.families import FAMILIES
from ipadapter_instruct.models.files.encoder_files import VIT_H_URL
from ipadapter_instruct.models.reference.face_analysis import pack_folder
from ipadapter_instruct.nodes.faces.load_face import FACES
from ipadapter_instruct.nodes.faces.read_face import IPAdapterInstructReadFace
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.prepare.load_embeds import EMBEDS
from ipadapter_instruct.nodes.shared.folders import adapter_path, encoder_path, stamps_of
from ipadapter_instruct.nodes.tools.open_clip import IPAdapterInstructOpenClip
from ipadapter_instruct.nodes.tools.train import IPAdapterInstructTrain
from safetensors.torch import save_file
from support import pack_nodes, small_files
from support.pack_nodes import run_node
from support.refusals import refused

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")

SEPARATORS = pytest.mark.parametrize("separator", ["/", "\\"])
CHOOSERS = {
    IPAdapterInstructLoader: ("adapter_name", "image_encoder"),
    IPAdapterInstructTrain: ("initial_adapter", "pairs"),
    IPAdapterInstructOpenClip: ("image_encoder", "text_encoder"),
    IPAdapterInstructReadFace: ("model_pack",),
}
ANY_ADDRESS = "https://"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Model folders with a file in a folder inside each of them."""
    with pack_nodes.model_folders(tmp_path) as folders:
        for folder in folders.values():
            (folder / "my" / "own").mkdir(parents=True)
        small_files.save_adapter(small_files.adapter_tensors("sd15"), folders["ipadapter"] / "my" / "own" / "style.bin")
        small_files.save_encoder_header(folders["clip_vision"] / "my" / "own" / "vit-h.safetensors", 1280)
        yield folders


def listed(folder: str) -> list[str]:
    folder_paths.filename_list_cache.pop(folder, None)
    return folder_paths.get_filename_list(folder)


@SEPARATORS
def test_a_file_is_found_with_either_systems_separator(folders, separator):
    for folder, name in (("ipadapter", "style.bin"), ("clip_vision", "vit-h.safetensors")):
        chosen = separator.join(("my", "own", name))
        assert encoder_path(folder, chosen) == folders[folder] / "my" / "own" / name
        assert stamps_of(folder, chosen) == stamps_of(folder, os.path.join("my", "own", name)) != []


@SEPARATORS
def test_the_loader_takes_names_with_either_systems_separator(folders, separator):
    chosen = {"adapter_name": f"my{separator}own{separator}style.bin"}
    chosen["image_encoder"] = f"my{separator}own{separator}vit-h.safetensors"
    loaded = run_node(IPAdapterInstructLoader, **chosen, lora_strength=1.0).args[0]
    assert loaded.encoder_file.path == folders["clip_vision"] / "my" / "own" / "vit-h.safetensors"
    assert len(IPAdapterInstructLoader.fingerprint_inputs(**chosen)) == 2


@pytest.mark.skipif(os.name == "nt", reason="a separator there")
def test_a_file_with_the_other_separator_in_its_own_name_is_that_file(folders):
    save_file(small_files.adapter_tensors("sdxl"), folders["ipadapter"] / "my\\own\\style.bin")
    assert adapter_path("my\\own\\style.bin") == folders["ipadapter"] / "my\\own\\style.bin"


@SEPARATORS
@pytest.mark.parametrize("name", ["../outside.bin", "../../outside.bin", "my/../../outside.bin"])
def test_neither_separator_leads_out_of_the_folder(folders, name, separator):
    (folders["ipadapter"].parent / "outside.bin").touch()
    refused(lambda: adapter_path(name.replace("/", separator)), "is not there")


@SEPARATORS
@pytest.mark.parametrize("kind", [EMBEDS, FACES], ids=["embeds", "faces"])
@pytest.mark.parametrize("mark", ["", " [output]"])
def test_kept_files_are_found_with_either_systems_separator(tmp_path, monkeypatch, kind, mark, separator):
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    path = tmp_path / ("output" if mark else "input") / kind.saved / "mine" / f"a{kind.suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    chosen = separator.join((kind.saved, "mine", f"a{kind.suffix}")) + mark
    assert kind.path(chosen) == path
    assert kind.problem_with(chosen) is None
    (tmp_path / f"a{kind.suffix}").touch()
    refused(lambda: kind.path(separator.join(("..", f"a{kind.suffix}")) + mark), "file was expected")
    refused(lambda: kind.path(f"elsewhere/a{kind.suffix}"), "is not. Similar names there: ", f"a{kind.suffix}", "Save")


# Names that are not there


@pytest.mark.parametrize(
    "name", ["style.bin", "other\\style.bin", "my/own/style.safetensors", "stile.bin", "my/own/STYLE-fp16.safetensors"]
)
def test_what_is_called_alike_is_offered_without_an_address(folders, name):
    refused(
        lambda: adapter_path(name), name, "is not there. ", f"Similar names there: {os.path.join('my', 'own', 'st')}"
    )
    with pytest.raises(ValueError) as caught:
        adapter_path(name)
    assert ANY_ADDRESS not in str(caught.value)
    assert "choose another" in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.bin", "", "x" * 5000, "a\0b", 5, ["style.bin"], None])
def test_a_name_like_none_that_is_there_gets_no_address_and_no_offer(folders, name):
    for folder in ("ipadapter", "clip_vision"):
        with pytest.raises(ValueError, match="is not there") as caught:
            encoder_path(folder, name)
        said = str(caught.value)
        assert ANY_ADDRESS not in said
        assert "Similar" not in said
        assert "Put it there, or refresh the page (R) and choose another" in said


@SEPARATORS
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_published_adapter_is_named_with_its_own_address_in_any_folder(folders, family, separator):
    for name in (family.published_file, f"instruct{separator}{family.published_file}"):
        refused(lambda name=name: adapter_path(name), "is not there", f"Get {family.url} and put it there", "choose")


def test_a_published_encoder_is_named_with_its_own_address(folders):
    name = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
    refused(lambda: encoder_path("clip_vision", name), "is not there", f"Get {VIT_H_URL} and put it there")
    with pytest.raises(ValueError) as caught:
        adapter_path(name)  # which is no adapter
    assert ANY_ADDRESS not in str(caught.value)


def test_a_pack_of_face_models_gets_the_address_of_a_published_one_alone(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "a.onnx").touch()
    refused(lambda: pack_folder("buffalo_l", [tmp_path]), "insightface's models buffalo_l", "Get buffalo_l.zip from")
    with pytest.raises(ValueError, match="mined .*Similar names there: mine. Choose another") as caught:
        pack_folder("mined", [tmp_path])
    assert ANY_ADDRESS not in str(caught.value)


# What the host checks before it runs anything


@pytest.mark.parametrize("node", CHOOSERS)
def test_the_host_leaves_names_of_files_to_the_node(folders, node, monkeypatch):
    """The server asks so: every input but these names is given by a link or left to the host."""
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
    types = node.INPUT_TYPES()
    inputs = {name: _value(kind) for name, kind in types["required"].items() if _value(kind) is not None}
    inputs |= {name: "gone.bin" for name in CHOOSERS[node]}
    prompt = {"1": {"class_type": node.GET_SCHEMA().node_id, "inputs": inputs}}
    _, errors, _ = asyncio.run(execution.validate_inputs("a prompt", prompt, "1", {}))
    assert not [error for error in errors if error["extra_info"].get("input_name") in CHOOSERS[node]]


def _value(kind: tuple):
    options = kind[1] if len(kind) > 1 else {}
    return options.get("default", (options.get("options") or [None])[0])


@pytest.mark.parametrize("kind", [EMBEDS, FACES], ids=["embeds", "faces"])
def test_a_file_that_comes_by_a_link_is_no_problem_and_has_no_digest(kind):
    assert kind.problem_with(None) is None
    assert kind.fingerprint(None) == ""
