"""Runs of the nodes under an audit hook: no code, program, network or file elsewhere."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator

import comfy.sd
import folder_paths
import pytest
import torch
from comfyhost.checkpoints import checkpoint
from comfyhost.weights import draw
from ipadapter_instruct import nodes
from ipadapter_instruct.nodes.tools.open_clip import IPAdapterInstructOpenClip
from safetensors.torch import save, save_file
from support import pack_nodes, small_encoders, small_files
from support.node_runs.node_inputs import BATCH, PICTURE, PREPARING, apply
from support.pack_nodes import run_node
from support.readable_adapters import ROW
from support.sampling.short_runs import noise, sample
from support.servers.file_server import Served, ask_here, serving

import nodes as host_nodes

pytest.importorskip("insightface")
face_models = pytest.importorskip("support.face_models")  # needs onnx

pytestmark = pytest.mark.xdist_group("nodes")
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
TEXTS = {"prompt": "a dog", "negative_prompt": ""}
TASK = {"task": "style", "instruction": ""}
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
        own = next(one for one in nodes.NODES if one.__name__ == f"IPAdapterInstruct{kind}")
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
    ran.add("Apply")
    applied = apply(guidance="three-way", schedule=schedule, layers=layers).args[0]
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
    """The acts that were seen and that a node may not do."""
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
        run_node(IPAdapterInstructOpenClip, image_encoder=DOWNLOAD, text_encoder="none")  # what is imported late
        (folders["clip_vision"] / "ViT-L-14-openai.safetensors").unlink()
        with watching(watcher, places) as seen:
            run_node(IPAdapterInstructOpenClip, image_encoder=DOWNLOAD, text_encoder="none")
    assert seen, "the hook should have seen the download"
    assert {one.split()[0] for one in seen} <= {"socket.connect", "socket.getaddrinfo"}
    here = [f"'{name}', {port}" for name in (host, "localhost", "::1")]
    assert all(any(place in one for place in here) for one in seen)
    with watching(watcher, places) as seen:
        run_node(IPAdapterInstructOpenClip, image_encoder="none", text_encoder=DOWNLOAD)  # the same file has both
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
