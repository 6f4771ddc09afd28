"""Instruct Grid in ComfyUI's own executor, on small models: what it makes, how often, and what it refuses."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import comfy.sd
import execution
import pytest
import torch
from comfyhost.checkpoints import checkpoint
from comfyhost.standins import StandIn, adapter_for, write_stand_ins
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.explore.grid import IPAdapterInstructGrid
from ipadapter_instruct.nodes.explore.grid_cells import MOST_CELLS, VARIED
from ipadapter_instruct.nodes.explore.label_grid import IPAdapterInstructLabelGrid
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from support import readable_adapters, small_encoders
from support.pack_nodes import run_node

import nodes as host_nodes

SETTINGS = {
    "instruction": "use the style",
    "prompt": "a dog",
    "negative_prompt": "blurry",
    "weight": 0.8,
    "guidance": "auto",
    "instruct_guidance": 2.0,
    "image_guidance": 1.0,
    "seed": 7,
    "steps": 1,
    "cfg": 4.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 1.0,
    "rows": "nothing",
    "row_values": "",
    "columns": "nothing",
    "column_values": "",
}
SINGLE = ("instruction", "prompt", "negative_prompt"), ("weight", "guidance", "instruct_guidance", "image_guidance")
SOCKETS = ("model", "adapter", "clip", "vae", "image", "latent")
LINKS = {name: ["given", slot] for slot, name in enumerate(SOCKETS)}
ROW = ["given", len(SOCKETS)]


class Given:
    """A node that hands out what the tests have made."""

    values = ()
    RETURN_TYPES = ("*",) * (len(SOCKETS) + 1)
    FUNCTION = "hand_out"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

    def hand_out(self):
        return self.values


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    adapter_file = StandIn("adapter.safetensors", lambda: adapter_for("sd15", kind="sd15"))
    write_stand_ins(folder, (StandIn("sd15.safetensors", lambda: checkpoint("sd15")), adapter_file))
    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(folder / "sd15.safetensors"))
        encoder = small_encoders.clip_vision(width=1280, layers=2, patches=2)
        adapter = AdapterWithEncoders(LoadedAdapter.read(folder / adapter_file.path), clip_vision=encoder)
        image = torch.rand(1, 40, 50, 3, generator=torch.Generator().manual_seed(0))
        return model, adapter, clip, vae, image, {"samples": torch.zeros(1, 4, 8, 8)}


@pytest.fixture
def run(made, monkeypatch):
    """Runs a prompt; the outputs of its node "last". Results are kept from run to run, as on the server."""
    for node in (IPAdapterInstructEncode, IPAdapterInstructApply, IPAdapterInstructGrid, IPAdapterInstructLabelGrid):
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
    monkeypatch.setattr(Given, "values", (*made, None))
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, "Given", Given)
    silent = SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_: None)
    sizes = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
    executor = execution.PromptExecutor(silent, cache_type=execution.CacheType.CLASSIC, cache_args=sizes)

    def run_prompt(prompt: dict) -> list:
        prompt = {"given": {"class_type": "Given", "inputs": {}}, **prompt}
        asyncio.run(executor.execute_async(prompt, "1", {}, ["last"]))
        assert executor.success, executor.status_messages[-1]
        kept = executor.caches.outputs
        entry = kept.get_local("last") if hasattr(kept, "get_local") else kept.get("last")
        return [values[0] for values in entry.outputs]

    return run_prompt


def grid(**changes) -> dict:
    inputs = {name: value for name, value in {**LINKS, **SETTINGS, **changes}.items() if value is not None}
    return {"last": {"class_type": "IPAdapterInstructGrid", "inputs": inputs}}


def single(**changes) -> dict:
    """Encode, Apply, KSampler and VAE Decode, as a user connects them."""
    settings = {**SETTINGS, **changes}
    links = {name: LINKS[name] for name in ("adapter", "clip", "image")}
    encode = {**links, "task": OWN_WORDS, **{name: settings[name] for name in SINGLE[0]}}
    apply = {"model": LINKS["model"], "embeds": ["encode", 0], "start_percent": 0.0, "end_percent": 1.0}
    apply |= {name: settings[name] for name in SINGLE[1]}
    sample = {"model": ["apply", 0], "positive": ["encode", 1], "negative": ["encode", 2]}
    sample |= {n: settings[n] for n in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")}
    return {
        "encode": {"class_type": "IPAdapterInstructEncode", "inputs": encode},
        "apply": {"class_type": "IPAdapterInstructApply", "inputs": apply},
        "sample": {"class_type": "KSampler", "inputs": {**sample, "latent_image": LINKS["latent"]}},
        "last": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": LINKS["vae"]}},
    }


VALUES = {
    "instruction": ["use the style", "use the pose"],
    "weight": [0.0, 0.7],
    "guidance": ["simple", "three-way"],
    "instruct_guidance": [1.5, 6.0],
    "image_guidance": [0.5, 1.0],
    "cfg": [1.0, 5.0],
    "seed": [0, 2**64 - 1],
}


@pytest.mark.parametrize("what", VARIED)
def test_every_cell_is_a_single_run_bit_for_bit_whatever_varies(run, what):
    """Rows vary each setting in turn, columns the guidance, or the weight where the rows vary the guidance."""
    other, values = ("weight", [0.5, 1.0]) if what == "guidance" else ("guidance", ["simple", "three-way"])
    typed = {"row_values": "\n".join(map(str, VALUES[what])), "column_values": "\n".join(map(str, values))}
    _, images = run(grid(rows=what, columns=other, **typed))

    pairs = [(row, column) for row in VALUES[what] for column in values]
    assert len(images) == len(pairs)
    for image, (row, column) in zip(images, pairs, strict=True):
        (alone,) = run(single(**{what: row, other: column}))
        assert torch.equal(image, alone[0])


def test_the_image_encoder_runs_once_for_the_whole_grid(run, made, monkeypatch):
    encoder = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    runs = []
    encoder.model.register_forward_hook(lambda *_: runs.append(1))
    adapter = replace(made[1], clip_vision=encoder)
    monkeypatch.setattr(Given, "values", (made[0], adapter, *made[2:], None))
    run(grid(rows="instruction", row_values="use the style\nuse the pose\nuse the face"))
    assert len(runs) == 2  # the picture and the zero image


def test_a_batch_of_latents_stands_side_by_side_in_its_cell(run, made, monkeypatch):
    batch = {"samples": torch.zeros(2, 4, 8, 8)}
    monkeypatch.setattr(Given, "values", (*made[:5], batch, None))
    sheet, images = run(grid(columns="weight", column_values="0.4, 0.8"))
    assert images.shape[0] == 4
    for number, left in enumerate(_lefts(sheet, images)):
        assert left is not None, f"picture {number} is not on the sheet"


def _lefts(sheet, images) -> list:
    """The left edge of each picture on the sheet, or None."""
    height, width = images.shape[1:3]
    rows = sheet[0, -height - 3 : -3] if sheet.shape[1] > height else sheet[0]
    starts = range(rows.shape[1] - width + 1)
    return [next((x for x in starts if torch.equal(rows[:, x : x + width], image)), None) for image in images]


def test_references_without_an_instruction_follow_the_cells(run, made, monkeypatch):
    monkeypatch.setattr(Given, "values", (*made, readable_adapters.row_of({}, image=made[4])))
    rows = {"rows": "instruction", "row_values": "use the style\nuse the pose"}
    _, expected = run(grid(**rows))
    _, images = run(grid(**rows, image=None, references=ROW))
    assert torch.equal(images, expected)


@pytest.mark.parametrize("given, found", [({}, "both are"), ({"image": None, "references": None}, "neither is")])
def test_a_grid_takes_a_picture_or_references(given, found):
    with pytest.raises(ValueError, match=f"^Connect a picture to image, or .*; {found} connected"):
        expanded(**{"references": ROW, **given})


def test_nothing_varied_is_one_picture(run):
    _, images = run(grid())
    (alone,) = run(single())
    assert torch.equal(images, alone)


# What it makes, and what it refuses, before anything runs


def expanded(**changes):
    IPAdapterInstructGrid.GET_SCHEMA()  # as the server has asked for it, before any run
    return run_node(IPAdapterInstructGrid, **{**LINKS, **SETTINGS, **changes})


def counts(out) -> dict[str, int]:
    kinds = [node["class_type"] for node in out.expand.values()]
    return {kind.removeprefix("IPAdapterInstruct"): kinds.count(kind) for kind in sorted(set(kinds))}


def test_what_cells_have_in_common_is_made_once():
    out = expanded(rows="seed", row_values="1, 2, 3", columns="weight", column_values="0.2 0.4")
    assert counts(out) == {"Apply": 2, "Encode": 1, "LabelGrid": 1, "KSampler": 6, "VAEDecode": 6}


def test_the_same_cell_twice_is_made_once():
    out = expanded(rows="seed", row_values="1, 1", columns="cfg", column_values="2")
    assert counts(out) == {"Apply": 1, "Encode": 1, "LabelGrid": 1, "KSampler": 1, "VAEDecode": 1}


def test_nodes_of_equal_cells_have_equal_ids_in_other_grids():
    graphs = [expanded(columns="weight", column_values=values).expand for values in ("0.2, 0.4", "0.4, 0.6")]
    first, second = ({name.rpartition(".")[2] for name in graph} for graph in graphs)
    kinds = sorted(name.partition("-")[0].removeprefix("IPAdapterInstruct") for name in first & second)
    assert kinds == ["Apply", "Encode", "KSampler", "LabelGrid", "VAEDecode"]


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"guidance": "simple"}, "40 passes"),
        ({"guidance": "three-way"}, "60 passes"),
        ({"guidance": "three-way", "image_guidance": 0.5}, "80 passes"),
        ({"guidance": "three-way", "cfg": 2.0}, "40 passes"),
        ({"guidance": "auto", "instruction": "use the face"}, "40 to 60 passes"),
        ({"guidance": "auto", "instruction": "use the pose", "cfg": 1.0}, "20 passes"),
        ({"guidance": "three-way", "weight": 0.0}, "40 passes"),
    ],
)
def test_the_passes_of_each_guidance_are_told(changes, passes):
    (said,) = expanded(steps=20, **changes).ui["text"]
    assert f"; {passes} of the model" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "weight", "row_values": "0.4, much"}, "row_values was expected to be numbers"),
        ({"rows": "weight", "row_values": "0.4, 9"}, "row_values .* weight from -1 to 3; one is 9"),
        ({"columns": "seed", "column_values": "1, 2.5"}, r"column_values .* whole numbers .* '2\.5'"),
        ({"columns": "seed", "column_values": "-1"}, "column_values .* whole numbers"),
        ({"columns": "guidance", "column_values": "simple\nloud"}, "column_values .* simple, three-way; it is 'loud'"),
        ({"rows": "instruction", "row_values": " \n"}, "row_values .* is empty"),
        ({"rows": "cfg", "row_values": "1", "columns": "cfg", "column_values": "2"}, "both are cfg"),
        ({"rows": "instruction", "row_values": "use \ud83d"}, "row_values .* letter 5 is half of one"),
        ({"instruction": "use \ud83d"}, "instruction .* letter 5 is half of one"),
        ({"rows": "colour", "row_values": "1"}, "rows was expected to be one of nothing, instruction"),
        (
            {"rows": "seed", "row_values": "1 " * 51, "columns": "cfg", "column_values": "1, 2"},
            f"At most {MOST_CELLS} .* 51 x 2 = 102",
        ),
    ],
)
def test_wrong_values_are_refused_by_the_inputs_name(changes, message):
    with pytest.raises(ValueError, match=message):
        expanded(**changes)
