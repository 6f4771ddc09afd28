"""The inputs of adapters without an instruction: pictures, faces, stored pictures; and messages where one lacks."""

from __future__ import annotations

import functools

import pytest
import torch
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.image_encoder import zero_hidden_states
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.models.reference.faces import Faces
from ipadapter_instruct.nodes.prepare.load_embeds import IPAdapterInstructLoadEmbeds
from ipadapter_instruct.nodes.prepare.save_embeds import IPAdapterInstructSaveEmbeds
from support import small_encoders, small_models
from support import small_plain_adapters as plain
from support.pack_nodes import run_node
from support.refusals import refused
from support.sampling.short_runs import close, same, sample

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

KINDS = list(plain.SIZES)
each_kind = pytest.mark.parametrize("kind", KINDS)
READ_IMAGES = [kind for kind in KINDS if kind not in plain.OF_FACES_ALONE]


def same_tokens(found, expected) -> None:
    for branch in Branch:
        assert torch.equal(found.image_tokens[branch], expected.image_tokens[branch]), branch


# What is read


@each_kind
def test_the_instruction_is_ignored_and_it_is_said(kind):
    adapter = plain.adapter(kind)
    first, other = (plain.encode(adapter, instruction=text) for text in ("use the pose", "use the style"))
    same_tokens(first.args[0], other.args[0])
    assert first.args[0].instruction == ""
    assert f"instruction: ignored; small-{kind}.safetensors is {adapter.kind}, which takes none" in first.ui["text"]


def test_a_negative_instruction_is_ignored_too():
    found = plain.encode(plain.adapter("plus"), negative_instruction="the style")
    same_tokens(found.args[0], plain.embeds(plain.adapter("plus")))
    assert found.ui["text"][0].startswith("instruction and negative_instruction: ignored; small-plus")


@each_kind
def test_the_prompt_reaches_the_sampler_and_not_the_adapter(kind):
    found = plain.encode(plain.adapter(kind), prompt="a cat")
    same_tokens(found.args[0], plain.embeds(plain.adapter(kind)))
    assert not torch.equal(found.args[1][0][0], plain.encode(plain.adapter(kind)).args[1][0][0])


@each_kind
def test_the_branches_are_the_picture_and_without_it_nothing(kind):
    """The encoding of nothing: an image of zeros where states are read, else a pooled or a face embedding of zeros."""
    adapter = plain.adapter(kind)
    found, sizes, reads = plain.embeds(adapter).image_tokens, adapter.sizes, adapter.kind
    nothing = [torch.zeros(1, 512)] if reads.reads_face else []
    nothing += [zero_hidden_states(plain.image_encoder())] if reads.reads_hidden_states else []
    nothing += [torch.zeros(1, sizes.image_width)] if reads.reads_image_embeds else []
    same(found.uncond, adapter.image_tokens(*nothing))
    same(found.full, found.everything)
    same(found.full, found.image_only)
    assert not torch.allclose(found.full, found.uncond, atol=0.05)


@pytest.mark.parametrize("kind", plain.OF_FACES)
def test_a_faces_length_counts_for_the_unnormalised_portrait_alone(kind):
    adapter, face = plain.adapter(kind), plain.faces()
    one, longer = (plain.embeds(adapter, face=Faces(scale * face.embeddings)) for scale in (1.0, 3.0))
    counts = not torch.allclose(one.image_tokens.full, longer.image_tokens.full, atol=1e-4)
    assert counts == (kind == "faceid-resampler")


def test_the_unnormalised_portrait_is_a_plus_adapter_that_reads_one_state():
    kind = "faceid-resampler"
    face = plain.faces(2).embeddings
    expected = plain.adapter("plus", weights=plain.tensors(kind)).image_tokens(face.unsqueeze(1))
    same(plain.adapter(kind).image_tokens(face), expected)


@pytest.mark.parametrize("kind", plain.OF_FACES_ALONE)
def test_an_adapter_of_faces_alone_looks_at_no_picture_and_needs_no_encoder(kind):
    adapter = plain.adapter(kind)
    found = plain.encode(adapter, image=plain.images(3), clip_vision=None)
    same_tokens(found.args[0], plain.embeds(adapter))
    assert f"picture: not looked at; {adapter.kind} reads the face embedding alone" in found.ui["text"]


@pytest.mark.parametrize("kind", ["base", "plus", "full-face"])
def test_a_face_for_an_adapter_of_pictures_is_ignored_and_it_is_said(kind):
    adapter = plain.adapter(kind)
    found = plain.encode(adapter, face=plain.faces())
    same_tokens(found.args[0], plain.embeds(adapter))
    assert f"face: ignored; {adapter.kind} reads the picture" in found.ui["text"]


def test_v2_without_structure_is_the_face_alone_and_v1_knows_none():
    one, other = (plain.images(2)[n : n + 1] for n in range(2))
    for kind, structure, alike in (
        ("faceid-plus-v2", 0.0, True),
        ("faceid-plus-v2", 1.0, False),
        ("faceid-plus", 0.0, False),
    ):
        adapter = plain.adapter(kind)
        first, second = (plain.embeds(adapter, image=image, face_structure=structure) for image in (one, other))
        assert torch.allclose(first.image_tokens.full, second.image_tokens.full, atol=1e-3) == alike
    same_tokens(first, plain.embeds(adapter, image=one, face_structure=2.0))


def test_v2s_structure_is_a_straight_line_from_the_face_to_the_picture():
    adapter = plain.adapter("faceid-plus-v2")
    none, half, whole = (plain.embeds(adapter, face_structure=s).image_tokens.full for s in (0.0, 0.5, 1.0))
    close(half, (none + whole) / 2, tolerance=1e-6)


@pytest.mark.parametrize("kind", ["faceid-plus", "faceid-plus-v2"])
def test_one_face_is_for_all_pictures(kind):
    adapter, images = plain.adapter(kind), plain.images(2)
    found = plain.embeds(adapter, image=images, face=plain.faces(), combine="concat")
    each = [plain.embeds(adapter, image=images[n : n + 1]).image_tokens.full for n in range(2)]
    close(found.image_tokens.full, torch.cat(each, dim=1), tolerance=1e-5)


@pytest.mark.parametrize("kind", ["base", "plus", "faceid-plus"])
def test_many_pictures_are_the_same_as_a_few_at_a_time(kind):
    adapter, number = plain.adapter(kind), 11
    found = plain.embeds(adapter, number, combine="one per batch index").image_tokens.full
    face = plain.faces(number).embeddings
    for n in (0, 7, 10):
        own = Faces(face[n : n + 1]) if adapter.kind.reads_face else None
        alone = plain.embeds(adapter, image=plain.images(number)[n : n + 1], face=own)
        close(found[n : n + 1], alone.image_tokens.full, tolerance=1e-5)


# Stored pictures and stored embeds


@pytest.mark.parametrize("kind", ["base", "plus", "faceid-plus", "faceid-plus-v2", "faceid"])
def test_what_clip_vision_encode_has_read_is_the_picture(kind):
    adapter, encoder = plain.adapter(kind), small_encoders.clip_vision(width=plain.WIDTH, layers=2)
    expected = plain.embeds(adapter, 2, clip_vision=encoder, combine="average")
    (read,) = host_nodes.CLIPVisionEncode().encode(encoder, plain.images(2), "center")
    given = {"clip_vision_output": read} if adapter.encoder_need else {}
    found = plain.embeds(adapter, 2, image=None, clip_vision=encoder, combine="average", **given)
    for branch in Branch:
        close(found.image_tokens[branch], expected.image_tokens[branch], tolerance=1e-5)


def test_stored_embeds_of_another_encoder_are_refused_with_their_width():
    call = lambda: plain.embeds(plain.adapter("base"), image=None, embeds=torch.ones(2, 7))  # noqa: E731
    refused(call, "pooled embeds", "[2, 7], pooled embeds 7 wide, of another encoder", "with a base model")


def saved_and_loaded(embeds, adapter):
    run_node(IPAdapterInstructSaveEmbeds, embeds=embeds, filename_prefix="embeds/plain")
    file = "embeds/plain_00001_.instruct.safetensors [output]"
    return run_node(IPAdapterInstructLoadEmbeds, adapter=AdapterWithEncoders(adapter, None), file=file).args[0]


@each_kind
def test_saved_embeds_are_loaded_as_they_were(places, kind):
    embeds = plain.embeds(plain.adapter(kind))
    same_tokens(saved_and_loaded(embeds, plain.adapter(kind)), embeds)


def test_saved_and_loaded_embeds_give_the_same_picture_with_the_lora(places):
    embeds, bare = plain.embeds(plain.adapter("faceid")), small_models.small_model()
    loaded = saved_and_loaded(embeds, plain.adapter("faceid"))
    same(sample(plain.applied(bare, loaded)), sample(plain.applied(bare, embeds)))


def test_embeds_of_another_adapter_or_of_another_version_of_one_are_refused(places):
    weights = plain.tensors("faceid-plus")
    embeds = plain.embeds(plain.adapter("faceid-plus", weights=weights))
    for other in (plain.adapter("faceid-plus", seed=1), plain.adapter("faceid-plus-v2", weights=weights)):
        refused(lambda other=other: saved_and_loaded(embeds, other), "were made with small-faceid-plus.safetensors")
        next((places / "output" / "embeds").iterdir()).unlink()


# Messages


@pytest.mark.parametrize("kind", plain.OF_FACES)
def test_a_missing_face_is_asked_for(kind):
    adapter = plain.adapter(kind)
    said = f"A face was expected, since small-{kind}.safetensors is {adapter.kind}, which reads a face embedding"
    refused(lambda: plain.encode(adapter, face=None), said, "none is connected. Connect Instruct Load Face")


def test_an_adapter_of_faces_of_another_width_is_refused():
    weights = dict(plain.tensors("faceid"))
    weights["image_proj.proj.0.weight"] = weights["image_proj.proj.0.weight"][:, :256]
    said = "Face embeddings 256 wide were expected, as small-faceid.safetensors takes them; they are 512 wide"
    refused(lambda: plain.encode(plain.adapter("faceid", weights=weights)), said, "ArcFace")


@pytest.mark.parametrize("kind", ["faceid-plus", "faceid-plus-v2"])
@pytest.mark.parametrize("images", [1, 2])
def test_faces_that_are_not_as_many_as_the_pictures_are_refused(kind, images):
    call = lambda: plain.encode(plain.adapter(kind), image=plain.images(images), face=plain.faces(3))  # noqa: E731
    refused(call, "One face was expected for all pictures, or one for each", f"3 faces and {images} pictures")


@pytest.mark.parametrize("kind", READ_IMAGES)
def test_another_encoder_is_refused_and_so_is_none(kind):
    adapter = plain.adapter(kind)
    wrong = small_encoders.clip_vision_of({**small_encoders.vit_config(80, 2, 2), "projection_dim": 64})
    refused(lambda: plain.encode(adapter, clip_vision=wrong), "This adapter needs the image encoder", "80 wide")
    refused(lambda: plain.encode(adapter, clip_vision=None), "This adapter needs the image encoder", "clip_vision")


@functools.cache
@torch.inference_mode(False)
def model_of(family: str):
    return small_models.small_model(family)


@each_kind
@pytest.mark.parametrize(("family", "title", "other"), [("sd15", "SD1.5", "sdxl"), ("sdxl", "SDXL", "sd15")])
def test_another_base_model_is_refused_by_name(kind, family, title, other):
    embeds, said = plain.embeds(plain.adapter(kind, family)), f"This adapter is for {title} (context width"
    refused(lambda: plain.apply(model_of(other), embeds), said, "the connected model", f"Connect a full {title} ")
    refused(lambda: plain.apply(model_of("sd3"), embeds), said, f"is not {title}'s UNet", f"Connect an {title} ")


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        ("3.to_k", (64, 4), "its 3.to_k is for a layer of 64 x 96, the model's is 32 x 96"),
        ("40.to_q", (32, 4), "it has 40.to_q, which is none of them"),
    ],
)
def test_a_lora_that_does_not_fit_the_model_is_refused_before_anything_is_changed(layer, shape, said):
    spoilt = {f"ip_adapter.{layer}_lora.up.weight": torch.zeros(shape)}
    spoilt |= {f"ip_adapter.{layer}_lora.down.weight": torch.zeros(4, 96)}
    adapter, bare = plain.adapter("faceid", weights={**plain.tensors("faceid"), **spoilt}), small_models.small_model()
    embeds = plain.embeds(adapter)
    refused(lambda: plain.apply(bare, embeds), "The LoRA in small-faceid.safetensors was expected", said, "Connect a")
    assert not bare.patches
    assert plain.apply(bare, plain.of_strength(embeds, 0.0)).args
