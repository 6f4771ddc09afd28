"""The node Load open_clip: files and downloads, and what is said where one is missing, busy or wrong."""

import comfy.model_management as mm
import folder_paths
import open_clip
import pytest
import torch
from comfy_execution.graph import ExecutionBlocker
from ipadapter_instruct.models.encoding.open_clip.files import IMAGE_WEIGHTS, TEXT, TEXT_WEIGHTS
from ipadapter_instruct.models.encoding.open_clip.pretrained import download_pretrained
from ipadapter_instruct.models.encoding.text_encoder import encode_texts
from ipadapter_instruct.models.files.encoder_files import EncoderSizes
from ipadapter_instruct.nodes.tools.open_clip import IPAdapterInstructOpenClip
from safetensors.torch import save, save_file
from support import small_encoders
from support.pack_nodes import run_node
from support.servers.file_server import Served, ask_here, serving

pytestmark = pytest.mark.xdist_group("open_clip")  # one process loads the encoders for all

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ComfyUI's folders of encoders, empty."""
    found = {}
    for key in ("clip_vision", "text_encoders"):
        found[key] = tmp_path / key
        found[key].mkdir()
        place = ([str(found[key])], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, place)
        folder_paths.filename_list_cache.pop(key, None)
    yield found
    for key in found:
        folder_paths.filename_list_cache.pop(key, None)


@pytest.fixture
def server(monkeypatch):
    """A server that has a small ViT-L and its text tower, in open_clip's layout, under every address."""
    served = Served(save(small_encoders.small_vit_l()), linked=True)
    with serving(served) as address:
        ask_here(monkeypatch, address)
        yield served


def choices(place: int) -> list[str]:
    folder_paths.filename_list_cache.clear()
    return IPAdapterInstructOpenClip.define_schema().inputs[place].options


def load(image_encoder: str = "none", text_encoder: str = "none"):
    return run_node(IPAdapterInstructOpenClip, image_encoder=image_encoder, text_encoder=text_encoder)


def test_the_node_offers_the_files_and_the_downloads(folders):
    (folders["clip_vision"] / "a.safetensors").touch()
    (folders["text_encoders"] / "b.safetensors").touch()
    downloads = [f"{model} (download)" for model in ("ViT-H-14 laion2b_s32b_b79k", "ViT-bigG-14 laion2b_s39b_b160k")]
    openai = [f"{model} openai (download)" for model in ("ViT-L-14", "ViT-L-14-336")]
    assert choices(0) == ["none", "a.safetensors", *downloads, *openai]
    assert choices(1) == ["none", "b.safetensors", openai[0]]


def test_a_file_is_loaded_and_said_what_it_is(folders, image_files, text_files):
    for key, files in (("clip_vision", image_files), ("text_encoders", text_files)):
        (folders[key] / "x.safetensors").write_bytes(files["transformers"].read_bytes())

    output = run_node(IPAdapterInstructOpenClip, image_encoder="x.safetensors", text_encoder="x.safetensors")
    image, text = output.args

    of_image = "ViT-H-14 image tower, 2 layers, 1280 wide; float32, transformers' names, 28 pixels"
    of_text = "ViT-L-14 text tower, 12 layers, 768 wide; float16, transformers' names"
    assert output.ui["text"] == ("x.safetensors", of_image, "x.safetensors", of_text)
    assert image.encode_image(torch.rand(1, 28, 28, 3)).image_embeds.shape == (1, 1024)
    assert encode_texts(text, ["a"])["a"].shape == (1, 77, 768)


def test_an_encoder_that_was_not_chosen_stops_what_asks_for_it_with_words(folders, image_files):
    (folders["clip_vision"] / "x.safetensors").write_bytes(image_files["transformers"].read_bytes())
    image, text = load("x.safetensors").args
    assert image.encode_image(torch.rand(1, 28, 28, 3)).image_embeds.shape == (1, 1024)
    assert isinstance(text, ExecutionBlocker)
    assert text.message == "Choose text_encoder in Load open_clip for Instruct; it is none."
    with pytest.raises(ValueError, match="^Choose an image_encoder, a text_encoder, or both; both are none"):
        load()


def test_a_download_comes_once_for_both_towers(folders, server, monkeypatch):
    image = load("ViT-L-14 openai (download)").args[0]
    assert [path.name for path in folders["clip_vision"].iterdir()] == ["ViT-L-14-openai.safetensors"]
    assert server.sent == [len(server.content)]
    assert image.sizes == EncoderSizes(1024, 768, 5)

    ask_here(monkeypatch, NOBODY)
    again = load("ViT-L-14 openai (download)").args[0]
    text = load(text_encoder="ViT-L-14 openai (download)").args[1]
    assert again is image
    assert encode_texts(text, ["a"])["a"].shape == (1, 77, 768)


def test_a_file_that_has_come_meanwhile_is_not_fetched_again(folders, server):
    (small,) = (one for one in IMAGE_WEIGHTS if one.choice == "ViT-L-14 openai (download)")
    first = download_pretrained(small, folders["clip_vision"])
    assert download_pretrained(small, folders["clip_vision"]) == first
    assert server.sent == [len(server.content)]


def test_every_download_is_known_to_open_clip(folders, server, monkeypatch):
    """The server refuses all; what is asked for is in the message."""
    server.status = 404
    repositories = {
        "ViT-H-14 laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "ViT-bigG-14 laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "ViT-L-14 openai": "timm/vit_large_patch14_clip_224.openai",
        "ViT-L-14-336 openai": "timm/vit_large_patch14_clip_336.openai",
    }
    assert {one.choice for one in (*IMAGE_WEIGHTS, *TEXT_WEIGHTS)} == {f"{name} (download)" for name in repositories}
    for name, repository in repositories.items():
        server.forget()
        with pytest.raises(ValueError, match="could not be downloaded") as caught:
            load(f"{name} (download)")
        url = f"https://huggingface.co/{repository}/resolve/main/open_clip_model.safetensors"
        target = folders["clip_vision"] / f"{name.replace(' ', '-')}.safetensors"
        assert f"To get it in a browser instead: {url} , saved as {target}" in str(caught.value)
        assert len(server.asked) == 2  # the pickle too


def test_a_download_that_breaks_off_is_taken_up_and_said_when_nothing_more_comes(folders, server):
    server.cuts = [1_000_000, *[0] * 20]
    with pytest.raises(ValueError, match=r"did not send all .*Run the workflow again later"):
        load("ViT-L-14 openai (download)")
    assert list(folders["clip_vision"].iterdir()) == []

    server.cuts = [1_000_000]
    server.forget()
    load("ViT-L-14 openai (download)")
    assert server.sent[1] < len(server.content)


def test_a_download_can_be_interrupted_and_shows_its_progress(folders, server, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total):
            assert total == len(server.content)

        def update_absolute(self, value):
            bars.append(value)
            mm.interrupt_current_processing()

    monkeypatch.setattr("comfy.utils.ProgressBar", Bar)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            load(text_encoder="ViT-L-14 openai (download)")
    finally:
        mm.interrupt_current_processing(False)
    assert len(bars) == 1
    assert list(folders["text_encoders"].iterdir()) == []


def test_a_busy_server_is_asked_for_one_file_and_said(folders, server):
    server.status = 503
    with pytest.raises(ValueError, match="could not be downloaded.*too busy.*Run the workflow again later"):
        load("ViT-L-14 openai (download)")
    assert len(server.asked) == 1


def test_a_download_without_room_is_said_before_anything_is_fetched(folders, server):
    server.stated_size = 10**15
    with pytest.raises(ValueError, match=r"could not be downloaded.*1,000,000.00 GB are still to come"):
        load("ViT-L-14 openai (download)")
    assert server.sent == []


def test_a_download_that_open_clip_does_not_know_is_said(folders, server, monkeypatch):
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {})
    with pytest.raises(ValueError, match="expected to know ViT-L-14.* openai.*Update open_clip_torch, or choose"):
        load("ViT-L-14 openai (download)")


def test_the_text_tower_of_an_image_encoder_alone_is_refused(folders, image_weights):
    save_file(image_weights, folders["text_encoders"] / "x.safetensors")
    with pytest.raises(ValueError, match=f"x.safetensors was expected to hold CLIP's {TEXT.title}"):
        load(text_encoder="x.safetensors")
