"""Laws of the resampler. That it computes what the authors' code computes is in tests/golden."""

import dataclasses

import pytest
import torch
from ipadapter_instruct.models.adapter.resampler import (
    LONGEST_NUMBER,
    ProjectionSizes,
    Resampler,
    count_blocks,
    highest_number,
)

SMALL = ProjectionSizes(
    tokens=5, width=48, heads=2, blocks=3, image_width=40, text_width=24, out_width=56, image_ff=192, prompt_ff=96,
    instruct_ff=96,
)  # fmt: skip
UNLIKE_THE_PUBLISHED = [
    {},
    {"heads": 1},
    {"blocks": 1},
    {"blocks": 11},
    {"tokens": 1},
    {"image_ff": 64, "prompt_ff": 100, "instruct_ff": 33},
    {"image_width": 16, "text_width": 1024, "out_width": 12},
]


def resampler(**changes) -> Resampler:
    torch.manual_seed(0)
    model = Resampler(dataclasses.replace(SMALL, **changes))
    with torch.no_grad():
        model.latents.normal_()
    return model.eval()


def inputs(batch: int = 2, patches: int = 9, texts: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, patches, SMALL.image_width), (batch, texts, SMALL.text_width), (batch, texts, SMALL.text_width)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("changes", UNLIKE_THE_PUBLISHED, ids=str)
def test_every_size_is_read_off_the_tensors(changes):
    model = resampler(**changes)
    assert Resampler.read_sizes(model.state_dict()) == dataclasses.replace(SMALL, **changes)


@torch.no_grad()
def test_tokens_have_the_number_and_the_width_that_the_sizes_say():
    assert resampler()(*inputs(batch=3)).shape == (3, SMALL.tokens, SMALL.out_width)


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one():
    model, both = resampler(), inputs(batch=2)

    separate = [model(*(x[i : i + 1] for x in both)) for i in range(2)]

    torch.testing.assert_close(model(*both), torch.cat(separate), rtol=0, atol=1e-5)
    assert not torch.allclose(*separate, atol=1e-2)


@torch.no_grad()
def test_the_order_of_the_image_patches_does_not_matter():
    model, (image, instruct, prompt) = resampler(), inputs()
    found, expected = (model(x, instruct, prompt) for x in (image.flip(1), image))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["image", "instruction", "prompt"])
@torch.no_grad()
def test_the_tokens_depend_on_the(which):
    model, changed = resampler(), inputs()
    before = model(*changed)
    changed[which] = -changed[which]
    assert not torch.allclose(model(*changed), before, atol=1e-2)


@torch.no_grad()
def test_instruction_and_prompt_are_not_read_alike():
    model, (image, instruct, prompt) = resampler(), inputs()
    assert not torch.allclose(model(image, prompt, instruct), model(image, instruct, prompt), atol=1e-2)


def test_a_missing_tensor_that_a_size_is_read_off_is_named():
    state = resampler().state_dict()
    del state["new_input_layers.0.1.1.weight"]
    with pytest.raises(KeyError, match="new_input_layers.0.1.1.weight"):
        Resampler.read_sizes(state)


def test_without_a_numbered_block_there_is_one_to_be_missed():
    assert highest_number(set(), 0, "layers.") == 0
    assert count_blocks({"latents": torch.zeros(1)}) == 1


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ({"1", "3"}, "0"),
        ({"0", "1", "3"}, "2"),
        ({"0", "1", "2", "3"}, "3"),
        ({"0", "1", "2", "9" * LONGEST_NUMBER}, "3"),
        ({"0", "9" * 5000}, "1"),
    ],
    ids=["the first", "one between", "one too many", "a long one", "a very long one"],
)
def test_numbers_beyond_what_there_can_be_are_refused_with_the_first_that_is_missing(numbers, missing):
    with pytest.raises(KeyError) as caught:
        highest_number(numbers, 3, "layers.")
    assert caught.value.args == (f"layers.{missing}",)


def test_the_last_number_that_there_can_be_is_right():
    assert highest_number({"0", "1", "2"}, 3, "layers.") == 2
