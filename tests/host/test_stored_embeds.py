"""Embeds that were saved and loaded, and pictures that were read before: the same as made afresh, bit for bit."""

import os
from dataclasses import replace

import pytest
import torch
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.image_encoder import zero_hidden_states
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.prepare.load_embeds import IPAdapterInstructLoadEmbeds
from ipadapter_instruct.nodes.prepare.save_embeds import IPAdapterInstructSaveEmbeds
from support import pack_nodes, small_encoders, small_files, small_models
from support.pack_nodes import run_node
from support.readable_adapters import OF_REFERENCE, Runs, row_of
from support.refusals import refused
from support.sampling.short_runs import noise, same, sample

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

FAMILIES = ["sd15", "sdxl", "sd3"]
FIRST = "embeds/instruct_00001_.instruct.safetensors"
TEXTS = {"task": OWN_WORDS, "instruction": "use the pose", "prompt": "a (red:1.3) dog", "negative_prompt": "blurry"}


def save(embeds, prefix: str = "embeds/instruct"):
    return run_node(IPAdapterInstructSaveEmbeds, embeds=embeds, filename_prefix=prefix)


def load(adapter: LoadedAdapter, file: str = f"{FIRST} [output]") -> InstructEmbeds:
    (embeds,) = run_node(IPAdapterInstructLoadEmbeds, adapter=AdapterWithEncoders(adapter, None), file=file).args
    return embeds


def listed() -> list[str]:
    return IPAdapterInstructLoadEmbeds.INPUT_TYPES()["required"]["file"][1]["options"]


# Saving and loading


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_embeds_give_the_same_picture(places, family, guidance):
    embeds, model = small_models.golden_embeds(family), small_models.small_model(family)
    save(embeds)
    loaded = load(small_models.small_adapter(family))

    assert loaded.instruction == embeds.instruction
    found, expected, bare = (
        sample(each) for each in (*(small_models.applied(model, e, guidance=guidance) for e in (loaded, embeds)), model)
    )
    same(found, expected)
    assert not torch.allclose(found, bare, atol=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_tokens_for_each_latent_come_back_too(places, family):
    made, model = small_models.golden_embeds(family), small_models.small_model(family)
    tokens = made.image_tokens.map(lambda t: torch.cat([t, t.roll(5, dims=-1)]))
    weights = torch.linspace(0.2, 1.2, tokens.full.shape[0] * tokens.full.shape[1]).view(2, -1)
    embeds = InstructEmbeds(made.adapter, made.instruction, tokens, weights)
    save(embeds)
    loaded = load(made.adapter)

    assert torch.equal(loaded.token_weights, weights)
    found, expected = (sample(small_models.applied(model, e), noise(model, batch=2)) for e in (loaded, embeds))
    same(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_adapter_and_its_conversions_load_each_others_embeds(places, family):
    paths = [places / name for name in ("adapter.bin", "adapter-fp16.safetensors", "adapter-bf16.safetensors")]
    small_files.save_adapter(small_files.adapter_tensors(family), paths[0])
    convert(paths[0], paths[1], "fp16")
    convert(paths[1], paths[2], "bf16")
    adapters = [LoadedAdapter.read(path) for path in paths]

    for number, adapter in enumerate(adapters, start=1):
        tokens = torch.randn(1, 16, adapter.context_width)
        save(InstructEmbeds(adapter, "use the pose", small_models.Branches(*[tokens] * 4)))
        for other in adapters:
            loaded = load(other, f"embeds/instruct_{number:05}_.instruct.safetensors [output]")
            assert loaded.adapter is other
            assert torch.equal(loaded.image_tokens.full, tokens)


def test_another_adapter_is_refused_of_the_same_family_or_another(places):
    save(small_models.golden_embeds("sd15"))
    trained = small_models.small_adapter(
        "sd15", lambda name, weight: -weight if name.endswith("proj_in.bias") else weight
    )
    trained.name = "trained.safetensors"
    parts = ("The embeds in instruct_00001_.instruct.safetensors were made with small.safetensors (for SD1.5)",)
    refused(lambda: load(trained), *parts, "trained.safetensors (for SD1.5)", "another one", "encode the picture again")
    refused(lambda: load(small_models.small_adapter("sdxl")), *parts, "for SDXL", "Load small.safetensors")


def test_files_are_numbered_and_none_is_written_over(places):
    embeds = small_models.golden_embeds()
    said = [save(embeds).ui["text"] for _ in range(3)]
    names = [f"instruct_0000{number}_.instruct.safetensors" for number in (1, 2, 3)]

    assert sorted(os.listdir(places / "output" / "embeds")) == names
    for name, (file, instruction) in zip(names, said, strict=True):
        assert file.startswith(f"embeds/{name} (")
        assert file.endswith(f" MB), in {places / 'output'}")
        assert instruction == "instruction: use the composition"


def test_a_prefix_may_be_a_plain_name_or_hold_the_date(places):
    save(small_models.golden_embeds(), "cat")
    save(small_models.golden_embeds(), "cats/%year%/cat")
    assert (places / "output" / "cat_00001_.instruct.safetensors").is_file()
    assert len(list((places / "output" / "cats").glob("2*/cat_00001_.instruct.safetensors"))) == 1


@pytest.mark.parametrize("prefix", ["../cat", "/tmp/cat", "a/../../cat"])
def test_a_prefix_outside_the_output_folder_is_refused(places, prefix):
    refused(
        lambda: save(small_models.golden_embeds(), prefix), "filename_prefix", "inside", str(places / "output"), "Write"
    )
    assert os.listdir(places / "output") == []


@pytest.mark.parametrize("prefix", ["", "  ", ".", "..", "/"])
def test_a_prefix_that_names_nothing_is_refused(places, prefix):
    refused(
        lambda: save(small_models.golden_embeds(), prefix), "filename_prefix was expected to be a name", "Write one"
    )


def test_a_folder_that_cannot_be_made_is_said(places):
    (places / "output" / "embeds").write_text("a file in the folder's place")
    refused(
        lambda: save(small_models.golden_embeds()), "embeds", "the system refused", "choose another filename_prefix"
    )


def test_the_list_shows_the_input_folder_and_what_was_saved(places):
    save(small_models.golden_embeds())
    save(small_models.golden_embeds(), "embeds/more/cat")
    save(small_models.golden_embeds(), "elsewhere/cat")
    saved = places / "output" / "embeds" / "instruct_00001_.instruct.safetensors"
    (places / "input" / "mine").mkdir()
    for name in ("b.instruct.safetensors", "mine/a.instruct.safetensors", "other.safetensors"):
        (places / "input" / name).write_bytes(saved.read_bytes())

    assert listed() == [
        "b.instruct.safetensors",
        "mine/a.instruct.safetensors",
        f"{FIRST} [output]",
        "embeds/more/cat_00001_.instruct.safetensors [output]",
    ]
    for name in listed():
        assert IPAdapterInstructLoadEmbeds.validate_inputs(file=name) is True
        assert torch.equal(
            load(small_models.small_adapter(), name).image_tokens.full, small_models.golden_embeds().image_tokens.full
        )


@pytest.mark.parametrize(
    "name",
    [
        "gone.instruct.safetensors",
        "../a.instruct.safetensors",
        "other.safetensors",
        "",
        "/etc/hostname",
        "gone [output]",
    ],
)
def test_a_file_that_is_not_there_or_not_embeds_is_refused_before_anything_runs(places, name):
    for path in (places / "a.instruct.safetensors", places / "input" / "other.safetensors"):
        path.write_bytes(b"x")
    said = IPAdapterInstructLoadEmbeds.validate_inputs(file=name)
    assert "file was expected to be embeds" in said
    assert "refresh the page" in said
    refused(lambda: load(small_models.small_adapter(), name), "file was expected to be embeds")


def test_a_linked_file_name_is_checked_when_it_is_known(places):
    assert IPAdapterInstructLoadEmbeds.validate_inputs(file=None) is True


def test_another_file_under_the_same_name_is_loaded_anew(places):
    made, name = small_models.golden_embeds(), "a.instruct.safetensors"
    for instruction in ("use the style", "use the pose"):
        save(InstructEmbeds(made.adapter, instruction, made.image_tokens))
    first, second = (path.read_bytes() for path in sorted((places / "output" / "embeds").iterdir()))
    prints = []
    for content in (first, first, second):
        (places / "input" / name).write_bytes(content)
        prints.append(IPAdapterInstructLoadEmbeds.fingerprint_inputs(adapter=None, file=name))
    assert prints[0] == prints[1] != prints[2]


# Pictures that were read before


@pytest.fixture(scope="module")
def vit_h():
    """An image encoder with ViT-H's width and picture size, two layers deep."""
    return small_encoders.clip_vision(width=1280, layers=2)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """By family, from the loader, without an image encoder."""
    with pack_nodes.model_folders(tmp_path_factory.mktemp("models")) as folders:
        for family in FAMILIES:
            small_files.save_adapter(
                small_files.adapter_tensors(family), folders["ipadapter"] / f"{family}.safetensors"
            )
        yield {
            family: run_node(
                IPAdapterInstructLoader, adapter_name=f"{family}.safetensors", image_encoder="auto", lora_strength=1.0
            ).args[0]
            for family in FAMILIES
        }


@pytest.fixture(scope="module")
def picture():
    return torch.rand(2, 250, 300, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def output(vit_h, picture):
    """ComfyUI's CLIP Vision Encode of the picture."""
    with torch.inference_mode():
        return host_nodes.CLIPVisionEncode().encode(vit_h, picture, "center")[0]


@pytest.fixture(scope="module")
def states(output):
    return output.penultimate_hidden_states


def encode_stored(loaded, clip_vision=None, **inputs):
    """Encode's outputs for a reference of Instruct Reference. clip_vision: as if connected to the loader."""
    own = {name: inputs.pop(name) for name in ("image", *OF_REFERENCE) if name in inputs}
    given = {"adapter": replace(loaded, clip_vision=clip_vision), "clip": small_encoders.small_clip(), **TEXTS}
    return run_node(IPAdapterInstructEncode, **{**given, **inputs}, references=row_of(own)).args


def same_tokens(found: InstructEmbeds, expected: InstructEmbeds) -> None:
    for branch in Branch:
        assert torch.equal(found.image_tokens[branch], expected.image_tokens[branch]), branch
    assert found.adapter is expected.adapter
    assert found.instruction == expected.instruction


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("crop", "fit"), [("center", "center crop"), ("none", "stretch")])
def test_a_picture_read_by_clip_vision_encode_is_the_picture_itself(adapters, vit_h, picture, family, crop, fit):
    expected, *conditioning = encode_stored(adapters[family], image=picture, fit=fit, clip_vision=vit_h)
    (read,) = host_nodes.CLIPVisionEncode().encode(vit_h, picture, crop)
    found, *texts = encode_stored(adapters[family], clip_vision_output=read, clip_vision=vit_h)

    same_tokens(found, expected)
    assert found.image_tokens.full.shape[:2] == (1, 32)
    for one, other in zip(texts, conditioning, strict=True):
        assert torch.equal(one[0][0], other[0][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_plus_embeds_are_the_same_picture(adapters, vit_h, output, states, family):
    given = {"clip_vision": vit_h}
    (found, *_), (expected, *_) = (
        encode_stored(adapters[family], **given, **{name: value})
        for name, value in (("embeds", states), ("clip_vision_output", output))
    )
    same_tokens(found, expected)


def test_half_precision_embeds_are_taken(adapters, vit_h, states):
    (found, *_), (expected, *_) = (
        encode_stored(adapters["sd15"], embeds=each, clip_vision=vit_h)
        for each in (states.half(), states.half().float())
    )
    same_tokens(found, expected)


def test_the_image_encoder_runs_for_the_blank_picture_once_and_never_again(adapters, states):
    encoder = small_encoders.clip_vision(width=1280, layers=2)
    runs = Runs(encoder)
    seen = [
        encode_stored(adapters["sd15"], embeds=states, clip_vision=encoder, **changes)[0].image_tokens.full
        for changes in ({}, {"instruction": "use the style"}, {"prompt": "a cat"})
    ]
    assert runs.sizes == [1]
    assert not any(torch.allclose(seen[0], other, atol=1e-3) for other in seen[1:])


def test_with_neg_embeds_no_image_encoder_runs_nor_is_one_needed(adapters, vit_h, states):
    blank = zero_hidden_states(vit_h).clone()
    runs = Runs(vit_h)
    expected, *_ = encode_stored(adapters["sd15"], embeds=states, clip_vision=vit_h)
    found, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=blank)
    several, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=blank.repeat(2, 1, 1), clip_vision=vit_h)

    same_tokens(found, expected)
    same_tokens(several, expected)
    assert runs.sizes == []


def test_plus_neg_embed_is_a_black_picture_and_another_uncond(adapters, vit_h, states):
    """As IPAdapter Plus's encoder makes it: an image of zeros, then normalised."""
    black = vit_h.encode_image(torch.zeros(1, 224, 224, 3)).penultimate_hidden_states
    as_trained, *_ = encode_stored(adapters["sd15"], embeds=states, clip_vision=vit_h)
    found, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=black)

    assert torch.equal(found.image_tokens.full, as_trained.image_tokens.full)
    assert not torch.allclose(found.image_tokens.uncond, as_trained.image_tokens.uncond, atol=1e-3)


def test_saved_stored_pictures_sample_as_the_picture_would(adapters, vit_h, states, places):
    embeds, *_ = encode_stored(adapters["sdxl"], embeds=states, clip_vision=vit_h)
    save(embeds)
    same_tokens(load(adapters["sdxl"].adapter), embeds)


EITHER = "Connect one of image, clip_vision_output and embeds, or a face"
EXPECTED = "was expected to be the penultimate hidden states of ViT-H (1280 wide), [n, 257, 1280]; it is "
WRONG_STATES = {
    "pooled, of a base IP-Adapter": (torch.zeros(1, 1024), "[1, 1024], pooled embeds, as of a base IP-Adapter"),
    "pooled, of bigG": (torch.zeros(2, 1280), "[2, 1280], pooled embeds"),
    "of ViT-L": (torch.zeros(1, 257, 1024), "[1, 257, 1024], hidden states of ViT-L (1024 wide)"),
    "of bigG": (torch.zeros(1, 257, 1664), "[1, 257, 1664], hidden states of ViT-bigG (1664 wide)"),
    "of Kolors": (torch.zeros(1, 577, 1024), "[1, 577, 1024], hidden states of ViT-L"),
    "of larger pictures": (torch.zeros(1, 577, 1280), "[1, 577, 1280], hidden states of 577 positions"),
    "of an old pack": (torch.zeros(2, 1, 257, 1280), "[2, 1, 257, 1280], embeds that an old IPAdapter Plus saved"),
    "of no picture": (torch.zeros(0, 257, 1280), "[0, 257, 1280], no picture at all"),
    "without axes": (torch.tensor(1.0), "[], something else"),
    "no tensor": ({"cond": 1}, "dict"),
}


@pytest.mark.parametrize("case", WRONG_STATES)
@pytest.mark.parametrize("name", ["embeds", "neg_embeds"])
def test_states_of_another_kind_are_refused_with_what_they_are(adapters, states, name, case):
    wrong, found = WRONG_STATES[case]
    inputs = {"embeds": states, name: wrong}
    refused(lambda: encode_stored(adapters["sd15"], **inputs), f"{name} {EXPECTED}{found}", "Encode the picture with")


def test_an_output_of_another_encoder_or_without_states_is_refused(adapters):
    wrong = small_encoders.clip_vision(width=160, layers=2).encode_image(torch.rand(1, 224, 224, 3))
    parts = (f"clip_vision_output {EXPECTED}", "[1, 257, 160]", "an encoder 160 wide", "Encode the picture with")
    refused(lambda: encode_stored(adapters["sd15"], clip_vision_output=wrong), *parts)
    refused(lambda: encode_stored(adapters["sd15"], clip_vision_output=object()), "clip_vision_output", "NoneType")


def test_states_that_are_not_numbers_are_refused(adapters, states):
    wrong = states.clone()
    wrong[0, 3, 5] = float("nan")
    refused(lambda: encode_stored(adapters["sd15"], embeds=wrong), "embeds", "NaN", "Encode the picture again")


def test_several_blank_pictures_that_differ_are_refused(adapters, states):
    parts = ("neg_embeds was expected to be one blank picture's", "2 different pictures'", "or nothing")
    refused(lambda: encode_stored(adapters["sd15"], embeds=states, neg_embeds=states), *parts)


def test_one_of_the_two_must_be_connected_and_not_both(adapters, output, states):
    refused(lambda: encode_stored(adapters["sd15"]), EITHER, "connected: none")
    both = {"clip_vision_output": output, "embeds": states}
    refused(lambda: encode_stored(adapters["sd15"], **both), EITHER, "connected: clip_vision_output and embeds")


def test_without_neg_embeds_and_without_an_encoder_the_message_says_which_to_get(adapters, states):
    refused(lambda: encode_stored(adapters["sd15"], embeds=states), "needs the image encoder ViT-H", "Get https://")


def test_a_clip_that_cannot_read_the_instruction_is_refused_before_anything_runs(adapters, states):
    encoder = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    runs = Runs(encoder)
    inputs = {"embeds": states, "clip_vision": encoder}
    refused(lambda: encode_stored(adapters["sd15"], clip=None, **inputs), "A CLIP was expected")
    refused(lambda: encode_stored(adapters["sd15"], clip=small_encoders.sd2_clip(), **inputs), "A CLIP with a CLIP-L")
    assert runs.sizes == []
