"""Encoding several references: what is left behind of them, and long batches. Bit for bit, unless told."""

import comfy.model_management as mm
import comfy.utils
import pytest
import torch
from ipadapter_instruct.models.encoding.image_encoder import BATCH, FeatureCache
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from support import small_models
from support.pack_nodes import run_node
from support.readable_adapters import IMAGES, Runs, image_encoder, inputs_for, readable_adapter, same_embeds
from support.sampling.counting import passes
from support.sampling.short_runs import same, sample

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all


# What to leave behind


@pytest.mark.parametrize("nothing", ["", "  \n"])
def test_nothing_to_leave_behind_is_no_negative_instruction(encode, nothing):
    same_embeds(encode(negative_instruction=nothing), encode())


def test_what_to_leave_behind_changes_what_guidance_moves_away_from_alone(encode):
    plain, found = encode(), encode(negative_instruction="the colour")
    for branch in (Branch.FULL, Branch.EVERYTHING):
        same(found.image_tokens[branch], plain.image_tokens[branch])
    for branch in (Branch.IMAGE_ONLY, Branch.UNCOND):
        assert not torch.allclose(found.image_tokens[branch], plain.image_tokens[branch], atol=1e-3)
    same(found.image_tokens.uncond, found.image_tokens.image_only)


def test_what_to_leave_behind_is_read_off_each_picture(encode):
    together = encode(image=IMAGES[:5], negative_instruction="the colour").image_tokens.uncond
    apart = [
        encode(image=picture[None], negative_instruction="the colour").image_tokens.uncond for picture in IMAGES[:5]
    ]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=0, atol=1e-5)
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)


@pytest.mark.parametrize("settings", [{"guidance": "simple"}, {"guidance": "three-way", "image_scale": 1.0}], ids=str)
def test_what_to_leave_behind_changes_the_picture(family, encode, settings):
    model = small_models.small_model(family)
    plain, found, again = (
        sample(small_models.applied(model, encode(**changes), **settings))
        for changes in ({}, {"negative_instruction": "the colour"}, {"negative_instruction": ""})
    )
    assert not torch.allclose(found, plain, rtol=0, atol=1e-3 * float(plain.abs().max()))
    same(again, plain)


def test_what_to_leave_behind_costs_no_pass(family, encode):
    model = small_models.small_model(family)
    for negative_instruction in ("", "the colour"):
        embeds = encode(negative_instruction=negative_instruction)
        applied = small_models.applied(model, embeds, guidance="three-way", image_scale=1.0)
        assert passes(applied, last_step=1) == [3]


# Long batches


def test_forty_pictures_are_encoded_a_few_at_a_time_and_the_progress_ends(monkeypatch):
    adapter, encoder = readable_adapter("sd15"), image_encoder()
    of_encoder, of_resampler, progress = Runs(encoder), Runs(adapter.image_projection.model), []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *args, **kwargs: progress.append((value, total))
    )
    inputs = {"image": IMAGES, **inputs_for(adapter, encoder)}
    embeds = run_node(IPAdapterInstructEncode, **inputs).args[0]

    parts = len(IMAGES) // BATCH
    assert embeds.image_tokens.full.shape[:2] == (1, 16 * len(IMAGES))
    assert sorted(of_encoder.sizes) == [1] + [BATCH] * parts  # the zero image by itself
    assert sorted(of_resampler.sizes) == [1] + [BATCH] * 3 * parts  # the zero image's tokens once, for uncond
    assert progress == [(part + 1, parts) for part in range(parts)]


def test_pictures_of_a_long_batch_have_their_own_masks(encode):
    masks = torch.zeros(6, 10, 10)
    for number, mask in enumerate(masks):
        mask[:, : number + 2] = 1
    together = encode(image=IMAGES[:6], image_mask=masks).image_tokens.full
    apart = [encode(image=IMAGES[n][None], image_mask=masks[n]).image_tokens.full for n in range(6)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=0, atol=1e-5)


def test_masks_of_a_long_batch_may_have_further_dimensions(encode):
    masks = (torch.rand(6, 10, 10, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    expected = encode(image=IMAGES[:6], image_mask=masks)
    for shape in ((6, 1, 10, 10), (1, 6, 10, 10), (6, 10, 10, 1), (1, 6, 10, 10, 1)):
        same_embeds(encode(image=IMAGES[:6], image_mask=masks.reshape(shape)), expected)


def test_an_interruption_stops_a_long_batch_before_its_next_part(monkeypatch):
    adapter, encoder = readable_adapter("sd15"), image_encoder()
    runs = Runs(encoder)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, *args, **kwargs: mm.interrupt_current_processing()
    )
    inputs = {"image": IMAGES, **inputs_for(adapter, encoder)}
    with pytest.raises(mm.InterruptProcessingException):
        run_node(IPAdapterInstructEncode, **inputs)
    assert runs.sizes == [1, BATCH]


class Peak(torch.overrides.TorchFunctionMode):
    """The largest number of elements of any tensor that torch makes, but for the matrices of the models."""

    elements = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim > 2:
            self.elements = max(self.elements, result.untyped_storage().size() // result.element_size())
        return result


def test_no_tensor_but_the_tokens_grows_with_the_batch():
    adapter, encoder = readable_adapter("sd15"), image_encoder(patches=16)

    def largest(number: int) -> int:
        inputs = {"image": IMAGES[:number], **inputs_for(adapter, encoder)}
        FeatureCache._by_owner.pop(encoder, None)
        with Peak() as peak:
            embeds = run_node(IPAdapterInstructEncode, **inputs).args[0]
        assert embeds.image_tokens.full.numel() < peak.elements
        return peak.elements

    few = largest(2 * BATCH)
    assert largest(len(IMAGES)) == few
