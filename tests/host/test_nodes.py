"""The nodes as users see them: what shared workflows depend on, the model folder, and what a run hands out."""

import asyncio
import dataclasses
import importlib.util
import json
import subprocess
import sys

import folder_paths
import pytest
import torch
from comfy_api.latest import io
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.places import REPO_ROOT
from comfyhost.weights import draw
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.nodes import NODES, IPAdapterInstructExtension
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.shared.status_text import output_with_text
from support import pack_nodes, readable_adapters, small_encoders, small_files, small_models
from support.imported_comfyui import COMFYUI
from support.pack_nodes import run_node
from support.patience import PATIENCE

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

REQUIRED, OPTIONAL = "required", "optional"

# Ids, names, types, order and defaults that saved workflows depend on: never changed, only appended to.
SCHEMA = json.loads((REPO_ROOT / "tests" / "data" / "node-schema.json").read_text(encoding="utf-8"))
KEPT = ("default", "min", "max", "step", "multiline", "dynamicPrompts", "options", "control_after_generate")
THE_HOSTS_OPTIONS = ("file", "sampler_name", "scheduler")


@pytest.fixture
def folders(tmp_path):
    with pack_nodes.model_folders(tmp_path) as folders:
        for name in ("a.bin", "b.safetensors"):
            small_files.save_adapter(small_files.adapter_tensors(), folders["ipadapter"] / name)
        small_files.save_encoder_header(folders["clip_vision"] / "vit-l.safetensors", 1024)
        yield folders


@pytest.fixture
def info(folders):
    """The server's description of each node for the page, by id."""
    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in NODES}


def inputs_of(node_info: dict):
    for group in (REQUIRED, OPTIONAL):
        for name in node_info["input_order"].get(group, []):
            kind, options = node_info["input"][group][name]
            yield group, name, kind, options


def snapshot(node_info: dict) -> dict:
    """The parts of the schema that a saved workflow depends on."""
    inputs = [
        [group, name, kind, {k: v for k, v in options.items() if k in KEPT and name not in THE_HOSTS_OPTIONS}]
        for group, name, kind, options in inputs_of(node_info)
    ]
    return {
        "display_name": node_info["display_name"],
        "category": node_info["category"],
        "inputs": inputs,
        "outputs": [list(pair) for pair in zip(node_info["output_name"], node_info["output"], strict=True)],
    }


@pytest.mark.parametrize("node_id", SCHEMA)
def test_ids_inputs_and_outputs_are_those_that_shared_workflows_depend_on(info, node_id):
    """After appending an input, append it in tests/data/node-schema.json too. Nothing else there may change."""
    assert snapshot(info[node_id]) == SCHEMA[node_id]


def test_the_nodes_are_these(info):
    assert list(info) == list(SCHEMA)


@pytest.mark.parametrize("node_id", SCHEMA)
def test_every_input_and_output_and_the_node_itself_is_explained(info, node_id):
    node = info[node_id]
    unexplained = [name for _, name, _, options in inputs_of(node) if not options.get("tooltip")]
    unexplained += [name for name, tip in zip(node["output_name"], node["output_tooltips"], strict=True) if not tip]
    assert unexplained == []
    assert node["description"]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_execute_takes_the_inputs_by_their_names(folders, node):
    schema = node.GET_SCHEMA()
    code = node.execute.__func__.__code__
    optional = [i.id for i in schema.inputs if i.optional]

    assert list(code.co_varnames[1 : code.co_argcount]) == [i.id for i in schema.inputs]
    assert len(node.execute.__func__.__defaults__ or ()) == len(optional)


def test_the_extension_hands_out_the_nodes(folders):
    found = asyncio.run(IPAdapterInstructExtension().get_node_list())
    assert {node.GET_SCHEMA().node_id for node in found} == SCHEMA.keys()
    assert all(issubclass(node, io.ComfyNode) for node in found)


def test_fields_that_this_comfyui_does_not_know_are_left_out(info):
    known = {field.name for field in dataclasses.fields(io.Schema)}
    assert all(node.GET_SCHEMA().search_aliases for node in NODES)
    assert all("search_aliases" in node_info for node_info in info.values()) == ("search_aliases" in known)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_words_of_a_node_are_sent_again_to_a_page_that_was_loaded_anew(info, node):
    """By ComfyUI itself, from 0.19 on, whose schema has a word for it."""
    schema = node.GET_SCHEMA()
    speaks = output_with_text.__name__ in vars(sys.modules[node.__module__])
    assert schema.has_intermediate_output == bool(schema.hidden) == speaks
    assert info[schema.node_id].get("has_intermediate_output", speaks) == speaks


def test_for_an_adapter_of_faces_the_loader_says_that_no_encoder_is_needed(folders):
    file = draw(plain_adapter(Plain("faceid"), (8,)), 0, torch.float32)
    small_files.save_adapter(file, folders["ipadapter"] / "face.safetensors")
    output = run_node(IPAdapterInstructLoader, adapter_name="face.safetensors", image_encoder="auto", lora_strength=1.0)
    assert output.args[0].encoder_file is None
    assert output.ui["text"][-1] == "image encoder: none needed, it reads a face embedding"


# The pack as ComfyUI loads it


def load_pack(name: str = "pack_as_comfyui_loads_it"):
    """The pack's own __init__, run as ComfyUI runs a custom node's."""
    spec = importlib.util.spec_from_file_location(
        name, REPO_ROOT / "__init__.py", submodule_search_locations=[str(REPO_ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def other_packs_folder(monkeypatch):
    """The folders that folder_paths holds for the key before the pack is loaded; None: nothing."""

    def register(value) -> None:
        monkeypatch.setitem(folder_paths.folder_names_and_paths, "ipadapter", value)
        if value is None:
            monkeypatch.delitem(folder_paths.folder_names_and_paths, "ipadapter")

    yield register
    sys.modules.pop("pack_as_comfyui_loads_it", None)


def own_folders() -> list[str]:
    """The models folder's, and the output folder's, where trained adapters are saved."""
    return [str(COMFYUI.joinpath(place, "ipadapter")) for place in ("models", "output")]


def test_the_model_folder_is_registered(other_packs_folder):
    other_packs_folder(None)
    load_pack()
    assert folder_paths.folder_names_and_paths["ipadapter"] == (own_folders(), folder_paths.supported_pt_extensions)


def test_folders_and_extensions_of_another_pack_are_kept(other_packs_folder):
    other_packs_folder((["/elsewhere/ipadapter"], {".onnx"}))
    load_pack()
    folders, extensions = folder_paths.folder_names_and_paths["ipadapter"]
    assert folders == ["/elsewhere/ipadapter", *own_folders()]
    assert extensions == folder_paths.supported_pt_extensions | {".onnx"}
    assert ".onnx" not in folder_paths.supported_pt_extensions


def test_a_folder_that_is_registered_already_is_not_registered_twice(other_packs_folder):
    other_packs_folder((own_folders(), {".bin"}))
    load_pack()
    load_pack()
    assert folder_paths.folder_names_and_paths["ipadapter"][0] == own_folders()


def test_the_entry_point_gives_the_extension_under_any_package_name(other_packs_folder):
    other_packs_folder(None)
    extension = asyncio.run(load_pack().comfy_entrypoint())
    found = asyncio.run(extension.get_node_list())
    assert [node.define_schema().node_id for node in found] == list(SCHEMA)


NEW_MODULES = """
import sys
sys.path.insert(0, {comfyui!r})
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, folder_paths, comfy_api.latest, server, nodes
before = set(sys.modules)
import asyncio, importlib.util
spec = importlib.util.spec_from_file_location("pack", {init!r}, submodule_search_locations=[{root!r}])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(sorted(set(sys.modules) - before))
asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
print(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


def test_loading_the_pack_imports_nothing_heavy_beside_what_comfyui_has_imported():
    script = NEW_MODULES.format(comfyui=str(COMFYUI), init=str(REPO_ROOT / "__init__.py"), root=str(REPO_ROOT))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=COMFYUI, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    of_init, of_nodes = run.stdout.splitlines()[-2:]
    assert of_init == "['pack']"
    assert of_nodes == "['pack']"


# What a run hands out


def encode(vit_h, **changes):
    loaded = run_node(IPAdapterInstructLoader, adapter_name="a.bin", image_encoder="auto", lora_strength=1.0).args[0]
    return readable_adapters.encoded(loaded, vit_h, **{"prompt": "a (red:1.3) dog", **changes}).args


@pytest.mark.parametrize("clip_skip", [None, -2])
def test_positive_and_negative_are_bit_for_bit_what_clip_text_encode_gives(folders, vit_h, clip_skip):
    clip = small_encoders.small_clip().clone()
    if clip_skip:
        clip.clip_layer(clip_skip)
    _, *found = encode(vit_h, clip=clip)

    for conditioning, text in zip(found, ("a (red:1.3) dog", "blurry"), strict=True):
        (expected,) = host_nodes.CLIPTextEncode().encode(clip, text)
        assert [len(conditioning), conditioning[0][1].keys()] == [len(expected), expected[0][1].keys()]
        assert torch.equal(conditioning[0][0], expected[0][0])
        assert torch.equal(conditioning[0][1]["pooled_output"], expected[0][1]["pooled_output"])


def test_changing_only_a_text_never_runs_the_image_encoder_again(folders):
    encoder = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    runs = []
    encoder.model.register_forward_hook(lambda *_: runs.append(1))
    first = encode(encoder)[0]
    assert len(runs) == 2  # the picture and the zero image

    for name, text, branch in (
        ("instruction", "use the style", Branch.FULL),
        ("prompt", "a cat", Branch.EVERYTHING),
        ("negative_prompt", "dark", Branch.IMAGE_ONLY),
    ):
        changed = encode(encoder, **{name: text})[0]
        assert not torch.allclose(changed.image_tokens[branch], first.image_tokens[branch], atol=1e-3)
    assert len(runs) == 2


def test_references_tokens_follow_one_another(folders, vit_h):
    images = torch.rand(2, 40, 50, 3)
    together, *apart = (encode(vit_h, image=i)[0].image_tokens for i in (images, images[:1], images[1:]))
    for branch, tokens in together.items():
        assert tokens.shape == (1, 32, 768)
        torch.testing.assert_close(tokens, torch.cat([one[branch] for one in apart], dim=1), rtol=0, atol=1e-5)


def test_an_apply_says_what_auto_chose_and_hands_out_another_model():
    model = small_models.small_model()
    out = run_node(
        IPAdapterInstructApply,
        model=model,
        embeds=small_models.golden_embeds(instruction="use the pose"),
        weight=0.8,
        guidance="auto",
        instruct_guidance=2.0,
        image_guidance=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    assert out.args[0] is not model
    assert out.args[0].model is model.model
    text = " ".join(out.ui["text"])
    assert "three-way" in text
    assert "weight: 0.6" in text
    assert "'pose'" in text
