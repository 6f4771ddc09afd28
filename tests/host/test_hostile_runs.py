"""Runs of the nodes under an audit hook: no code, program, network or file elsewhere; and hostile values."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator

import comfy.sd
import folder_paths
import pytest
import torch
from comfyhost.checkpoints import checkpoint
from comfyhost.weights import draw
from ipadapter_instruct import nodes
from ipadapter_instruct.nodes.explore.grid_cells import axis, cells_of
from safetensors.torch import save, save_file
from support import pack_nodes, small_encoders, small_files, small_models
from support.pack_nodes import run_node
from support.readable_adapters import ROW
from support.refusals import refused
from support.sampling.short_runs import noise, sample
from support.servers.file_server import Served, ask_here, serving

import nodes as host_nodes

pytest.importorskip("insightface")
face_models = pytest.importorskip("support.face_models")  # needs onnx

pytestmark = pytest.mark.xdist_group("nodes")
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
NAN, INFINITE = float("nan"), float("inf")
PICTURE, MASK = torch.rand(1, 40, 50, 3), torch.ones(1, 40, 50)
TEXTS = {"prompt": "a dog", "negative_prompt": ""}
TASK = {"task": "style", "instruction": ""}
BATCH = {"batch_factors": "1, 0.5", "three_way_until": 0.8}
PREPARING = {
    **dict(image=PICTURE, mask=MASK, action="cut out", background="random"),
    **dict(seed=0, feather=2.0, padding=0.1, invert=False),
}
DOWNLOAD = "ViT-L-14 openai (download)"
FACE = face_models.image_of([face_models.Mark(128, 128)])
GRID = {
    **dict(instruction="use the style", weight=0.8, guidance="auto", instruct_guidance=2.0, image_guidance=1.0),
    **dict(seed=1, steps=1, cfg=4.0, sampler_name="euler", scheduler="normal", denoise=1.0),
    **dict(rows="seed", row_values="1, 2", columns="cfg", column_values="4"),
}


class Watcher:
    """An audit hook, which Python can never take away again; it looks only while `allowed` folders are given."""

    def __init__(self):
        self.allowed: tuple[str, ...] = ()
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.allowed:
            return
        if event in FORBIDDEN or (event == "compile" and self.is_code(arguments[0])):
            self.seen.append(f"{event} {arguments}"[:300])
        if event == "open" and isinstance(arguments[0], str) and self.writes(arguments):
            path = os.path.abspath(arguments[0])
            if not path.startswith(self.allowed):
                self.seen.append(f"writes {path}")

    @staticmethod
    def is_code(source) -> bool:
        """Not for what is imported (None), nor for Python's own namedtuple, which the host makes in every step."""
        return source is not None and not str(source).startswith(("b'lambda _cls, ", "lambda _cls, "))

    @staticmethod
    def writes(arguments: tuple) -> bool:
        _, mode, flags = arguments
        return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
            letter in (mode or "") for letter in "wax+"
        )


@pytest.fixture(scope="module")
def watcher():
    return Watcher()


def run_all(folders, clip, vit_h) -> set[str]:
    """Run every kind of node once, each on what others gave. The kinds that ran."""
    ran = set()

    def node(kind: str, **inputs):
        ran.add(kind)
        own = getattr(nodes, f"IPAdapterInstruct{kind}")
        own.GET_SCHEMA()  # the host has asked for it when a node runs
        return run_node(own, **inputs).args

    node("OpenClip", image_encoder="small.safetensors", text_encoder="small.safetensors")
    faces = {"which": "largest", "together": "each", "save_as": "faces/x"}
    node("ReadFace", model_pack="buffalo_l", device="CPU", image=FACE, **faces)
    small_files.save_adapter(small_files.adapter_tensors(), folders["ipadapter"] / "a.bin")
    adapter = node("Loader", adapter_name="a.bin", image_encoder="auto", lora_strength=1.0, clip_vision=vit_h)[0]
    common = {"adapter": adapter, "clip": clip, **TEXTS}
    embeds = node("Encode", image=PICTURE, **TASK, **common)[0]
    (states,) = host_nodes.CLIPVisionEncode().encode(vit_h, PICTURE, "center")
    references = node("Reference", image=PICTURE, **ROW)[0]
    references = node("Reference", clip_vision_output=states, references=references, **ROW)[0]
    other = node("Encode", references=references, **TASK, **common)[0]
    both = {"embeds_1": embeds, "embeds_2": other, "weight_1": 1.0, "weight_2": 0.5, "at_percent": 0.5}
    for method in ("concat", "then"):
        node("Combine", method=method, **both)
    node("SaveEmbeds", embeds=embeds, filename_prefix="embeds/x")
    node("LoadEmbeds", adapter=adapter, file="embeds/x_00001_.instruct.safetensors [output]")
    node("LoadFace", file="faces/x_00001_.face.safetensors [output]")
    node("Prepare", **{**PREPARING, "action": "cut out and crop"})
    node("Tile", image=PICTURE, max_tiles=4, overlap=0.1, whole=True)
    node("LabelGrid", images=PICTURE, row_labels="one", column_labels="two")
    node("Task", adapter=adapter, task="style", phrasing="random", seed=1)
    schedule = node("Schedule", factors="0: 1, 0.5: 0.5", between="hold", along="steps", **BATCH)[0]
    layers = node("Layers", weight_type="linear", layer_weights="", scaling="V only")[0]
    applied = apply(ran, embeds=small_models.golden_embeds(), schedule=schedule, layers=layers)
    model, watch = node("Watch", model=applied)
    sample(model, noise(model))
    node("HeatMap", watch=watch, image=PICTURE, view="picture", opacity=0.5, scale="each map")
    made = {"model": ["a", 0], "vae": ["a", 1], "latent": ["b", 0], "image": ["c", 0]}  # links: it makes other nodes
    node("Grid", **{**GRID, **common, **made})
    model, clip, vae = sd15()
    given = {"model": model, "clip": clip, "vae": vae, "references": PICTURE, "targets": PICTURE, "captions": ""}
    how = {"initial_adapter": "from scratch", "steps": 2, "batch_size": 1, "learning_rate": 1e-4, "seed": 0}
    more = {"instruction": "use the light", "filename_prefix": "x", "clip_vision": vit_h, "preview_every": 1}
    node("Train", **given, **how, **more)
    return ran


@functools.cache
def sd15() -> tuple:
    """A checkpoint's MODEL, CLIP and VAE, the smallest that ComfyUI takes for SD1.5."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sd15.safetensors")
        save_file(draw(checkpoint("sd15"), seed=1, dtype=torch.float16), path)
        return comfy.sd.load_checkpoint_guess_config(path)[:3]


def apply(ran: set[str], **changes):
    ran.add("Apply")
    inputs = {
        "model": small_models.small_model(),
        "embeds": small_models.golden_embeds(),
        "weight": 0.8,
        "guidance": "three-way",
    }
    scales = {"instruct_guidance": 2.0, "image_guidance": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    return run_node(nodes.IPAdapterInstructApply, **{**inputs, **scales, **changes}).args[0]


@pytest.fixture
def folders(places, monkeypatch):
    """ComfyUI's model folders, with an encoder of few layers in two of them and a face analysis pack."""
    root = places / "models"
    root.mkdir()
    monkeypatch.setattr(folder_paths, "models_dir", str(root))
    monkeypatch.setattr(folder_paths, "temp_directory", str(places / "temp"))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "insightface", raising=False)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(root / "texts")], {".safetensors"}))
    face_models.save_pack(root / "insightface" / "models" / "buffalo_l")
    (root / "texts").mkdir()
    with pack_nodes.model_folders(root) as found:
        for folder in (root / "texts", found["clip_vision"]):
            save_file(small_encoders.small_vit_l(), folder / "small.safetensors")
        folder_paths.filename_list_cache.clear()
        yield found
    folder_paths.filename_list_cache.clear()


@contextlib.contextmanager
def watching(watcher: Watcher, places) -> Iterator[list[str]]:
    """What is seen that a node may not do."""
    watcher.allowed = (str(places), os.devnull, tempfile.gettempdir() + "/torchinductor")
    seen: list[str] = []
    try:
        yield seen
    finally:
        watcher.allowed = ()
        seen += watcher.seen
        watcher.seen.clear()


def test_no_run_of_a_node_does_more_than_read_and_write_its_folders(places, folders, watcher):
    given = small_encoders.small_clip(), small_encoders.clip_vision(width=1280, layers=2, patches=16)
    run_all(folders, *given)  # what is imported late runs code of files, as every import
    for path in places.rglob("*_00001*"):
        path.unlink()
    with watching(watcher, places) as seen:
        ran = run_all(folders, *given)
    assert seen == []
    assert ran == {node.__name__.removeprefix("IPAdapterInstruct") for node in nodes.NODES}


def test_a_download_that_was_chosen_is_the_only_access_to_the_network(places, folders, watcher, monkeypatch):
    with serving(Served(save(small_encoders.small_vit_l()), linked=True)) as address:
        ask_here(monkeypatch, address)
        host, port = address.removeprefix("http://").split(":")
        run_node(nodes.IPAdapterInstructOpenClip, image_encoder=DOWNLOAD, text_encoder="none")  # what is imported late
        (folders["clip_vision"] / "ViT-L-14-openai.safetensors").unlink()
        with watching(watcher, places) as seen:
            run_node(nodes.IPAdapterInstructOpenClip, image_encoder=DOWNLOAD, text_encoder="none")
    assert seen, "the hook should have seen the download"
    assert {one.split()[0] for one in seen} <= {"socket.connect", "socket.getaddrinfo"}
    here = [f"'{name}', {port}" for name in (host, "localhost", "::1")]
    assert all(any(place in one for place in here) for one in seen)
    with watching(watcher, places) as seen:
        run_node(nodes.IPAdapterInstructOpenClip, image_encoder="none", text_encoder=DOWNLOAD)  # the same file has both
    assert seen == []


def test_the_hook_would_see_it(watcher, tmp_path):
    watcher.allowed = (str(tmp_path / "allowed"),)
    try:
        (tmp_path / "elsewhere").write_text("")
        compile("1 + 1", "text", "eval")
    finally:
        watcher.allowed = ()
    assert [seen.split()[0] for seen in watcher.seen] == ["writes", "compile"]
    watcher.seen.clear()


@pytest.mark.parametrize("number", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("name", ["weight", "instruct_guidance", "image_guidance"])
def test_apply_refuses_numbers_that_are_none(name, number):
    refused(lambda: apply(set(), **{name: number}), f"{name} was expected to be a finite number", "Correct it")


@pytest.mark.parametrize("tiles, overlap", [(10**9, 0.1), (0, 0.1), (4, NAN), (4, 5.0)])
def test_tiles_beyond_all_measure_are_refused(tiles, overlap):
    call = {"image": PICTURE, "max_tiles": tiles, "overlap": overlap, "whole": True}
    refused(lambda: run_node(nodes.IPAdapterInstructTile, **call), "was expected to be a number from", "Correct it")


@pytest.mark.parametrize("feather", [1e9, NAN, -1.0])
def test_a_feather_beyond_all_measure_is_refused(feather):
    call = {**PREPARING, "feather": feather}
    refused(
        lambda: run_node(nodes.IPAdapterInstructPrepare, **call), "feather was expected to be a number from 0 to 64"
    )


@pytest.mark.parametrize("seed", [-1, 2**64, 10**400])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    call = {**PREPARING, "seed": seed}
    refused(
        lambda: run_node(nodes.IPAdapterInstructPrepare, **call), "seed was expected to be a number from 0", "it is"
    )


@pytest.mark.parametrize("weight", [NAN, 3.5, -1e9])
def test_a_weight_of_a_reference_beyond_all_measure_is_refused(weight):
    call = {"image": PICTURE, **ROW, "weight": weight}
    refused(lambda: run_node(nodes.IPAdapterInstructReference, **call), "weight was expected to be a number from -3 to")


@pytest.mark.parametrize("structure", [NAN, INFINITE, -0.1, 10**400])
@pytest.mark.parametrize("source", ["image", "embeds"])
def test_more_structure_of_a_face_than_there_is_is_refused(source, structure):
    call = {source: PICTURE, **ROW, "face_structure": structure}
    said = "face_structure was expected to be a number from 0 to 5"
    refused(lambda: run_node(nodes.IPAdapterInstructReference, **call), said)


@pytest.mark.parametrize("until", [NAN, INFINITE, -0.1, 1.01])
def test_a_moment_outside_the_sampling_is_refused(until):
    call = {"factors": "1", "between": "hold", "along": "steps", **BATCH, "three_way_until": until}
    said = "three_way_until was expected to be a number from 0 to 1"
    refused(lambda: run_node(nodes.IPAdapterInstructSchedule, **call), said)


@pytest.mark.parametrize("strength", [NAN, INFINITE, -INFINITE])
def test_a_lora_strength_that_is_no_number_is_refused_before_a_file_is_read(strength):
    call = {"adapter_name": "gone.bin", "image_encoder": "auto", "lora_strength": strength}
    refused(lambda: run_node(nodes.IPAdapterInstructLoader, **call), "lora_strength was expected to be a finite number")


@pytest.mark.parametrize("opacity", [NAN, -1.0, 1.01])
def test_an_opacity_beyond_all_measure_is_refused(opacity):
    call = {"watch": None, "image": PICTURE, "view": "picture", "opacity": opacity, "scale": "each map"}
    refused(lambda: run_node(nodes.IPAdapterInstructHeatMap, **call), "opacity was expected to be a number from 0 to 1")


@pytest.mark.parametrize("name", ["row_labels", "column_labels"])
def test_labels_of_a_megabyte_are_refused(name):
    call = {"images": PICTURE, "row_labels": "", "column_labels": "", name: "x" * 1_000_000}
    refused(lambda: run_node(nodes.IPAdapterInstructLabelGrid, **call), f"{name} was expected to hold at most 100,000")


def test_a_cell_width_that_makes_pictures_of_gigabytes_is_refused():
    call = {"images": torch.zeros(2, 4096, 1, 3), "row_labels": "", "column_labels": "a\nb", "cell_width": 4096}
    said = "cell_width was expected to leave at most 268,435,456 pixels", "2 picture(s) would be 4,096 x 16,777,216"
    refused(lambda: run_node(nodes.IPAdapterInstructLabelGrid, **call), *said)


def test_a_seed_of_thousands_of_digits_is_refused_in_the_packs_words():
    refused(lambda: axis("rows", "seed", "1 " + "9" * 5000), "row_values was expected to hold seeds", "(5,000 letters)")


@pytest.mark.parametrize("padding", [math.inf, NAN, 1e300])
def test_a_padding_beyond_all_measure_is_refused(padding):
    call = {**PREPARING, "action": "crop", "padding": padding}
    refused(lambda: run_node(nodes.IPAdapterInstructPrepare, **call), "padding was expected to be a number from 0 to 2")


def test_a_grid_of_a_billion_cells_is_refused_before_any_is_made():
    began = time.process_time()
    rows, columns = (axis(name, what, "1 " * 40000) for name, what in (("rows", "seed"), ("columns", "cfg")))
    refused(lambda: cells_of(rows, columns, None), "At most 100 pictures", "40000 x 40000 = 1600000000")
    assert time.process_time() - began < 5


def test_an_instruction_of_a_megabyte_is_read_as_its_beginning_is():
    from ipadapter_instruct.models.encoding.text_encoder import encode_texts

    clip, beginning = small_encoders.small_clip(), "use the style " * 200
    began = time.process_time()
    states = encode_texts(clip, [beginning, beginning * 400, "x" * 1_000_000])
    assert time.process_time() - began < 30
    assert torch.equal(states[beginning], states[beginning * 400])
