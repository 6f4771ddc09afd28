"""CLIP's towers by open_clip in ComfyUI's care, against transformers with the same weights.

The weights are random; both compute in float32. Absolute tolerance 1e-5; 1e-6 was measured for images
(3e-6 for a ViT-H of full size), 4e-6 for texts, with states of magnitude 5.
Towers are as wide as the real ones, which is how they are told, and have few layers.
"""

import gc
import json
import sys
import weakref

import comfy.clip_vision
import comfy.model_management as mm
import folder_paths
import open_clip
import pytest
import torch
import transformers
from comfy_execution.graph import ExecutionBlocker
from ipadapter_instruct.models.encoding.image_encoder import (
    check_encoder,
    encode_pixels,
    image_features,
    zero_hidden_states,
)
from ipadapter_instruct.models.encoding.open_clip.files import IMAGE, IMAGE_WEIGHTS, TEXT, TEXT_WEIGHTS, find_tower
from ipadapter_instruct.models.encoding.open_clip.pretrained import download_pretrained
from ipadapter_instruct.models.encoding.open_clip.towers import (
    CastAtUse,
    build_image_tower,
    load_image_tower,
    load_text_tower,
)
from ipadapter_instruct.models.encoding.pixels import CENTER_CROP, STRETCH
from ipadapter_instruct.models.encoding.text_encoder import check_clip_l, encode_texts
from ipadapter_instruct.models.files.encoder_files import VIT_H_HIDDEN_STATES, EncoderSizes
from ipadapter_instruct.nodes.tools.open_clip import IPAdapterInstructOpenClip
from safetensors.torch import save, save_file
from support import small_encoders
from support.imported_comfyui import COMFYUI
from support.pack_nodes import run_node
from support.servers.file_server import Served, ask_here, serving

import nodes

pytestmark = pytest.mark.xdist_group("open_clip")  # one process loads the encoders for all

TOLERANCE = 1e-5
SMALL = {"width": 1280, "layers": 2, "patches": 2}
LAYOUTS = ["transformers", "open_clip"]
PROMPTS = ["a photo of a cat", "", "An ÉCLAIR, (please:1.2)...", " ".join(f"word{i}" for i in range(120))]
NOBODY = "http://127.0.0.1:9"


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def image_weights():
    """In float32, with numbers that half precision does not have."""
    return {name: weight.float() * 1.0001 for name, weight in small_encoders.vit_weights(**SMALL).items()}


@pytest.fixture(scope="module")
def image_files(tmp_path_factory, image_weights):
    """The same image tower in both layouts; open_clip's as a whole CLIP, with something of its text tower."""
    folder = tmp_path_factory.mktemp("image")
    tower = small_encoders.open_clip_vision_model(image_weights, small_encoders.vit_config(**SMALL)).state_dict()
    whole = {f"visual.{name}": weight.contiguous() for name, weight in tower.items()}
    whole |= {"logit_scale": torch.zeros(()), "ln_final.weight": torch.zeros(1024)}
    save_file(whole, folder / "open_clip.safetensors")
    save_file(image_weights, folder / "transformers.safetensors")
    return {layout: folder / f"{layout}.safetensors" for layout in LAYOUTS}


@pytest.fixture(scope="module")
def text_files(tmp_path_factory):
    """CLIP-L's text tower in both layouts; transformers' as in a checkpoint of SD1.5, in half precision."""
    folder = tmp_path_factory.mktemp("text")
    weights = small_encoders.clip_l_weights()
    state = small_encoders.open_clip_text_model(weights).state_dict()
    save_file({name: tensor for name, tensor in state.items()}, folder / "open_clip.safetensors")
    prefixed = {f"cond_stage_model.transformer.{name}": weight for name, weight in weights.items()}
    save_file(prefixed, folder / "transformers.safetensors")
    return {layout: folder / f"{layout}.safetensors" for layout in LAYOUTS}


@pytest.fixture(scope="module")
def encoder(image_files):
    return load_image_tower(image_files["transformers"])


@pytest.fixture(scope="module")
def clip(text_files):
    return load_text_tower(text_files["transformers"])


@pytest.fixture(scope="module")
def pixels():
    """A picture and zeros, [2, 3, 28, 28]."""
    picture = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return torch.cat([picture, torch.zeros_like(picture)])


@pytest.fixture(scope="module")
def expected_image(image_weights, pixels):
    model = small_encoders.transformers_vision_model(image_weights, small_encoders.vit_config(**SMALL))
    with torch.no_grad():
        return model(pixel_values=pixels, output_hidden_states=True)


# Images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_image_states_and_embeddings_are_those_of_transformers(image_files, pixels, expected_image, layout):
    encoder = load_image_tower(image_files[layout])
    mm.load_models_gpu([encoder.patcher])

    last, penultimate, embedding, _ = encoder.model(pixel_values=pixels, intermediate_output=-2)

    assert encoder.sizes == EncoderSizes(1280, 1024, 5)
    assert_same(last, expected_image.last_hidden_state)
    assert_same(penultimate, expected_image.hidden_states[-2])
    assert_same(embedding, expected_image.image_embeds)
    assert_same(encode_pixels(encoder, pixels).hidden_states, expected_image.hidden_states[-2])
    assert_same(zero_hidden_states(encoder), expected_image.hidden_states[-2][1:])


def test_a_file_without_the_projection_gives_the_states(tmp_path, image_weights, encoder, pixels):
    weights = {name: weight for name, weight in image_weights.items() if name != "visual_projection.weight"}
    assert len(weights) == len(image_weights) - 1
    save_file(weights, tmp_path / "x.safetensors")
    without = load_image_tower(tmp_path / "x.safetensors")
    assert without.sizes == EncoderSizes(1280, None, 5)
    assert torch.equal(encode_pixels(without, pixels).hidden_states, encode_pixels(encoder, pixels).hidden_states)


@pytest.mark.parametrize("width", [1664, 1024])
def test_a_vit_bigg_and_a_vit_l_have_the_heads_and_the_activation_of_theirs(tmp_path, pixels, width):
    """As ComfyUI ships their configurations."""
    name = {1664: "clip_vision_config_g.json", 1024: "clip_vision_config_vitl.json"}[width]
    config = json.loads((COMFYUI / "comfy" / name).read_text())
    config |= {"num_hidden_layers": 2, "image_size": 28}
    torch.manual_seed(0)
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config)).eval()
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith("position_ids")}
    save_file(state, tmp_path / "x.safetensors")

    encoder = load_image_tower(tmp_path / "x.safetensors")

    features = encode_pixels(encoder, pixels)
    with torch.no_grad():
        expected = model(pixel_values=pixels, output_hidden_states=True)
    assert encoder.sizes == EncoderSizes(width, config["projection_dim"], 5)
    assert_same(features.hidden_states, expected.hidden_states[-2])
    assert_same(features.image_embeds, expected.image_embeds)


@pytest.mark.parametrize("name", ["ViT-H-14", "ViT-bigG-14", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"])
def test_a_tower_of_full_size_is_open_clips_own_tensor_for_tensor(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        own = open_clip.CustomTextCLIP(**config).visual.state_dict()

    weights = find_tower({f"visual.{key}": tensor for key, tensor in own.items()}, IMAGE, "a file")
    built = build_image_tower(weights).state_dict()

    assert weights.image_size == config["vision_cfg"]["image_size"]
    assert weights.layers == config["vision_cfg"]["layers"]
    shapes = {key.replace(".module.", "."): tensor.shape for key, tensor in built.items()}
    assert shapes == {key: tensor.shape for key, tensor in own.items()}


def test_a_vit_bigg_of_full_size_in_transformers_names_has_all_that_open_clips_has():
    config = json.loads((COMFYUI / "comfy" / "clip_vision_config_g.json").read_text())
    with torch.device("meta"):
        state = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config)).state_dict()
    weights = find_tower(state, IMAGE, "a file")
    assert len(build_image_tower(weights).state_dict()) == 584
    assert weights.encoder_sizes == EncoderSizes(1664, 1280, 257)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_comfyuis_own_node_encodes_with_it(encoder, image_weights, crop):
    config = small_encoders.vit_config(**SMALL)
    theirs = small_encoders.clip_vision_of(config)
    theirs.load_sd({name: weight.half() for name, weight in image_weights.items()})
    picture = torch.rand(1, 40, 60, 3)

    found, expected = (nodes.CLIPVisionEncode().encode(one, picture, crop)[0] for one in (encoder, theirs))

    for name in ("last_hidden_state", "penultimate_hidden_states", "image_embeds"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0.01)  # theirs are in half precision
    assert found["mm_projected"] is None
    fit = {"center": CENTER_CROP, "none": STRETCH}[crop]
    assert torch.equal(image_features(encoder, picture, fit=fit).hidden_states, found["penultimate_hidden_states"])


def test_it_is_a_clip_vision_for_this_pack_too(encoder):
    assert isinstance(encoder, comfy.clip_vision.ClipVisionModel)
    check_encoder(encoder, VIT_H_HIDDEN_STATES, "it")


def test_the_same_picture_is_encoded_once_and_the_states_go_with_the_encoder(image_files, tmp_path):
    path = tmp_path / "of its own.safetensors"
    path.write_bytes(image_files["transformers"].read_bytes())
    encoder, runs = load_image_tower(path), []
    encoder.model.register_forward_hook(lambda *_: runs.append(1))
    picture = torch.rand(1, 28, 28, 3)

    first, second = (image_features(encoder, x).hidden_states for x in (picture, picture.clone()))

    assert torch.equal(first, second)
    assert len(runs) == 1
    gone = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert gone() is None


# Texts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_states_are_those_of_transformers_for_all_77_tokens(text_files, layout):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(COMFYUI / "comfy" / "sd1_tokenizer")
    tokens = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = small_encoders.transformers_text_model(small_encoders.clip_l_weights())(
            input_ids=tokens
        ).last_hidden_state

    clip = load_text_tower(text_files[layout])
    hidden_states = encode_texts(clip, PROMPTS)

    check_clip_l(clip)
    assert list(hidden_states) == PROMPTS
    assert {(state.shape, state.dtype) for state in hidden_states.values()} == {((1, 77, 768), torch.float32)}
    assert_same(torch.cat(list(hidden_states.values())), expected)


def test_text_states_are_those_of_the_graphs_own_clip_l(clip):
    theirs = encode_texts(small_encoders.load_text_encoder("sd15"), PROMPTS)
    ours = encode_texts(clip, PROMPTS)
    for text in PROMPTS:
        assert_same(ours[text], theirs[text])


def test_of_a_long_clip_the_first_77_places_are_used(tmp_path):
    weights = dict(small_encoders.clip_l_weights(2))
    name = "text_model.embeddings.position_embedding.weight"
    for file, positions in (("short", weights[name]), ("long", torch.cat([weights[name]] * 3))):
        save_file({**weights, name: positions}, tmp_path / f"{file}.safetensors")
    short, long = (load_text_tower(tmp_path / f"{file}.safetensors") for file in ("short", "long"))
    assert torch.equal(encode_texts(short, ["a"])["a"], encode_texts(long, ["a"])["a"])


def test_of_a_shorter_clip_all_places_are_used(tmp_path):
    weights = small_encoders.with_positions(small_encoders.clip_l_weights(12), 20)
    save_file(weights, tmp_path / "short.safetensors")
    found = encode_texts(load_text_tower(tmp_path / "short.safetensors"), PROMPTS)
    expected = encode_texts(small_encoders.load_text_encoder("sd15", positions=20), PROMPTS)
    for text in PROMPTS:
        assert found[text].shape == (1, 20, 768)
        assert_same(found[text], expected[text])


def test_a_clip_without_clip_l_is_told_of_the_node():
    with pytest.raises(ValueError, match="or Load open_clip for Instruct"):
        check_clip_l(small_encoders.sd2_clip())


# Memory


def test_both_are_loaded_freed_and_loaded_again_by_comfyui(encoder, clip, pixels):
    mm.unload_all_models()
    runs = [lambda: encode_pixels(encoder, pixels).hidden_states, lambda: encode_texts(clip, ["a cat"])["a cat"]]
    before = [run() for run in runs]
    assert all(one.patcher in mm.loaded_models() for one in (encoder, clip))

    mm.unload_all_models()

    assert mm.loaded_models() == []
    for run, hidden_states in zip(runs, before, strict=True):
        assert torch.equal(run(), hidden_states)


def test_comfyuis_caches_find_their_models(encoder, clip):
    for tower in (encoder, clip):
        assert tower.get_models() == [tower.patcher]
        if hasattr(tower.patcher, "is_dynamic"):
            assert not tower.is_dynamic()


def test_memory_is_the_towers_tensors_in_the_files_precision(encoder, clip, image_weights):
    weights = sum(weight.nbytes for weight in small_encoders.clip_l_weights().values())
    assert encoder.patcher.model_size() == sum(weight.nbytes for weight in image_weights.values())
    assert clip.patcher.model_size() == weights
    assert {p.dtype for p in clip.model.parameters()} == {torch.float16}


def test_weights_left_behind_on_another_device_come_to_the_input(encoder):
    """As in a card that is too small: ComfyUI leaves some where they are."""
    assert encoder.model(pixel_values=torch.empty(1, 3, 28, 28, device="meta"))[0].is_meta
    assert {p.device.type for p in encoder.model.parameters()} == {"cpu"}


def test_the_copies_in_float32_are_made_a_block_at_a_time(encoder):
    blocks = [name for name, part in encoder.model.named_modules() if isinstance(part, CastAtUse)]
    assert blocks == ["", *(f"module.tower.transformer.resblocks.{number}" for number in range(2))]


def test_two_loads_of_a_file_are_one_model_and_a_changed_file_is_another(image_files, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(image_files["transformers"].read_bytes())
    first = load_image_tower(path)
    assert load_image_tower(path) is first
    replaced = tmp_path / "y.safetensors"
    replaced.write_bytes(image_files["open_clip"].read_bytes())
    replaced.replace(path)
    assert load_image_tower(path) is not first


# Errors


def test_a_missing_open_clip_is_an_error_that_says_how_to_get_it(image_files, monkeypatch, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"unread")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match="pip install open_clip_torch , or let ComfyUI-Manager"):
        load_image_tower(path)


def test_tensors_that_do_not_fit_together_are_refused(tmp_path, image_weights):
    name = "vision_model.embeddings.position_embedding.weight"
    save_file({**image_weights, name: torch.zeros(7, 1280)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="^x.safetensors .* do not fit together .*positional_embedding"):
        load_image_tower(tmp_path / "x.safetensors")


# The nodes


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
