"""Runs of the nodes under an audit hook: no code, program, network or file elsewhere; and hostile values."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time

import encoders
import files
import in_process
import pytest
import small
import torch
from in_process import run_node
from ipadapter_instruct import nodes
from ipadapter_instruct.models.faces import Faces
from ipadapter_instruct.nodes.grid_cells import axis, cells_of
from refusals import refused
from sampling import noise, sample

pytestmark = pytest.mark.xdist_group("nodes")
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
NAN, INFINITE = float("nan"), float("inf")
PICTURE, MASK = torch.rand(1, 40, 50, 3), torch.ones(1, 40, 50)
# These need a model of their own, or make other nodes; the others all run below.
NOT_RUN = {"ImageEncoder", "TextEncoder", "FaceAnalysis", "ReadFace", "EncodeStored", "Grid"}


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
        return run_node(getattr(nodes, f"IPAdapterInstruct{kind}"), **inputs).args

    files.save_adapter(files.adapter_tensors(), folders["ipadapter"] / "a.bin")
    adapter = node("Loader", adapter_name="a.bin", image_encoder="auto")[0]
    node("Convert", adapter_name="a.bin", precision="fp16", overwrite=False)
    texts = {"prompt": "a dog", "negative_prompt": ""}
    common = {"adapter": adapter, "clip": clip, "clip_vision": vit_h, **texts}
    embeds = node("Encode", image=PICTURE, instruction="use the style", **common)[0]
    references = node("Reference", image=PICTURE, instruction="use the pose", weight=1.0)[0]
    other = node("EncodeReferences", references=references, **common)[0]
    node("Combine", embeds_1=embeds, embeds_2=other, method="concat", weight_1=1.0, weight_2=0.5)
    node("Then", embeds=embeds, then=other, at_percent=0.5)
    node("SaveEmbeds", embeds=embeds, filename_prefix="embeds/x")
    node("LoadEmbeds", adapter=adapter, file="embeds/x_00001_.instruct.safetensors [output]")
    node("SaveFace", face=Faces(torch.ones(1, 512)), filename_prefix="faces/x")
    node("LoadFace", file="faces/x_00001_.face.safetensors [output]")
    node("CutOut", image=PICTURE, mask=MASK, background="random", seed=0, feather=2.0, invert=False)
    node("CropAround", image=PICTURE, mask=MASK, padding=0.1)
    node("Tile", image=PICTURE, max_tiles=4, overlap=0.1, whole=True)
    node("LabelGrid", images=PICTURE, row_labels="one", column_labels="two")
    node("Task", adapter=adapter, task="style", phrasing="random", seed=1)
    schedule = node("Schedule", factors="0: 1, 0.5: 0.5", between="hold", along="steps")[0]
    layers = node("Layers", weight_type="linear", layer_weights="", scaling="V only")[0]
    applied = apply(ran, embeds=small.golden_embeds(), schedule=schedule, layers=layers)
    node(
        "Guider", model=applied, positive=[], negative=[], text_guidance=4.0, instruct_guidance=2.0, image_guidance=1.0
    )
    model, watch = node("Watch", model=applied)
    sample(model, noise(model))
    node("HeatMap", watch=watch, image=PICTURE, view="picture", opacity=0.5, scale="each map")
    return ran


def apply(ran: set[str], **changes):
    ran.add("Apply")
    inputs = {"model": small.small_model(), "embeds": small.golden_embeds(), "weight": 0.8, "guidance": "three-way"}
    scales = {"instruct_guidance": 2.0, "image_guidance": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    return run_node(nodes.IPAdapterInstructApply, **{**inputs, **scales, **changes}).args[0]


def test_no_run_of_a_node_does_more_than_read_and_write_its_folders(places, watcher):
    (places / "models").mkdir()
    given = encoders.small_clip(), encoders.clip_vision(width=1280, layers=2, patches=2)
    with in_process.model_folders(places / "models") as folders:
        run_all(folders, *given)  # what is imported late runs code of files, as every import
        for path in places.rglob("*_00001_*"):
            path.unlink()
        (folders["ipadapter"] / "a-fp16.safetensors").unlink()
        watcher.allowed = (str(places), os.devnull, tempfile.gettempdir() + "/torchinductor")
        try:
            ran = run_all(folders, *given)
        finally:
            watcher.allowed = ()
    seen, watcher.seen = watcher.seen, []
    assert seen == []
    assert ran | NOT_RUN == {node.__name__.removeprefix("IPAdapterInstruct") for node in nodes.NODES}


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
@pytest.mark.parametrize("name", ["weight", "instruct_guidance", "image_guidance", "three_way_until", "lora_strength"])
def test_apply_refuses_numbers_that_are_none(name, number):
    refused(lambda: apply(set(), **{name: number}), f"{name} was expected to be a finite number", "Correct it")


@pytest.mark.parametrize("tiles, overlap", [(10**9, 0.1), (0, 0.1), (4, NAN), (4, 5.0)])
def test_tiles_beyond_all_measure_are_refused(tiles, overlap):
    call = {"image": PICTURE, "max_tiles": tiles, "overlap": overlap, "whole": True}
    refused(lambda: run_node(nodes.IPAdapterInstructTile, **call), "was expected to be a number from", "Correct it")


@pytest.mark.parametrize("feather", [1e9, NAN, -1.0])
def test_a_feather_beyond_all_measure_is_refused(feather):
    call = {"image": PICTURE, "mask": MASK, "background": "red", "seed": 0, "feather": feather, "invert": False}
    refused(lambda: run_node(nodes.IPAdapterInstructCutOut, **call), "feather was expected to be a number from 0 to 64")


@pytest.mark.parametrize("padding", [math.inf, NAN, 1e300])
def test_a_padding_beyond_all_measure_is_refused(padding):
    call = {"image": PICTURE, "mask": MASK, "padding": padding}
    refused(
        lambda: run_node(nodes.IPAdapterInstructCropAround, **call), "padding was expected to be a number from 0 to 2"
    )


def test_a_grid_of_a_billion_cells_is_refused_before_any_is_made():
    began = time.process_time()
    rows, columns = (axis(name, what, "1 " * 40000) for name, what in (("rows", "seed"), ("columns", "cfg")))
    refused(lambda: cells_of(rows, columns, None), "At most 100 pictures", "40000 x 40000 = 1600000000")
    assert time.process_time() - began < 5


def test_an_instruction_of_a_megabyte_is_read_as_its_beginning_is():
    from ipadapter_instruct.models.patching.text_encoder import encode_texts

    clip, beginning = encoders.small_clip(), "use the style " * 200
    began = time.process_time()
    states = encode_texts(clip, [beginning, beginning * 400, "x" * 1_000_000])
    assert time.process_time() - began < 30
    assert torch.equal(states[beginning], states[beginning * 400])
