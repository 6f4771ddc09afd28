"""The nodes that make reference pictures ready, and that Encode takes what they give in every family."""

import folder_paths
import numpy
import pytest
import torch
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.prepare.prepare_reference import IPAdapterInstructPrepare
from ipadapter_instruct.nodes.prepare.tile import IPAdapterInstructTile
from PIL import Image
from support import pack_nodes, readable_adapters, small_files
from support.pack_nodes import run_node
from support.refusals import refused

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

NODES = [IPAdapterInstructPrepare, IPAdapterInstructTile]
FAMILIES = ["sd15", "sdxl", "sd3"]
TOKENS = 16  # of one reference


def picture(number: int = 1, height: int = 40, width: int = 60, channels: int = 3) -> torch.Tensor:
    return torch.rand(number, height, width, channels, generator=torch.Generator().manual_seed(0))


def marked(height: int = 40, width: int = 60) -> torch.Tensor:
    """A mask [1, H, W] with a square of 16 pixels at row 12, column 20."""
    mask = torch.zeros(1, height, width)
    mask[:, 12:28, 20:36] = 1
    return mask


def cut_out(**changes):
    return prepare("cut out", **changes)


def crop_around(**changes):
    return prepare("crop", **changes)


def prepare(action: str, **changes):
    cutting = {"background": "#808080", "seed": 0, "feather": 0.0}
    inputs = {"image": picture(), "mask": marked(), "action": action, **cutting, "padding": 0.25, "invert": False}
    return run_node(IPAdapterInstructPrepare, **{**inputs, **changes})


def tile(**changes):
    inputs = {"image": picture(), "max_tiles": 4, "overlap": 0.125, "whole": True}
    return run_node(IPAdapterInstructTile, **{**inputs, **changes})


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


CHANNEL_AXES = [(3, 40, 60, 1), (3, 1, 40, 60), (1, 3, 40, 60)]


@pytest.mark.parametrize("shape", CHANNEL_AXES, ids=str)
@pytest.mark.parametrize("call", [cut_out, crop_around])
def test_a_channel_axis_makes_no_more_masks_of_the_pictures_masks(call, shape):
    masks = torch.cat([marked().roll(5 * number, 2) for number in range(3)])
    found, expected = (call(image=picture(3), mask=mask).args for mask in (masks.reshape(shape), masks))
    for one, other in zip(found, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("call", [cut_out, crop_around])
def test_a_picture_in_place_of_a_mask_is_refused(call):
    refused(lambda: call(mask=picture()), "mask was expected to be a mask", "[1, 40, 60, 3]", "Convert Image to Mask")


# What Encode makes of them


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request, tmp_path_factory):
    with pack_nodes.model_folders(tmp_path_factory.mktemp("models")) as folders:
        small_files.save_adapter(small_files.adapter_tensors(request.param), folders["ipadapter"] / "a.safetensors")
        yield run_node(
            IPAdapterInstructLoader, adapter_name="a.safetensors", image_encoder="auto", lora_strength=1.0
        ).args[0]


@pytest.fixture
def tokens(adapter, vit_h):
    """Encode: image tokens of the full branch, [1, T, D], of pictures."""

    def encode(image: torch.Tensor, **changes) -> torch.Tensor:
        embeds = readable_adapters.encode(adapter.adapter, vit_h, image=image, instruction="use the object", **changes)
        found = embeds.image_tokens[Branch.FULL]
        assert found.isfinite().all()
        return found

    return encode


def test_encode_takes_a_cut_out_as_the_picture_put_on_the_colour_by_hand(tokens):
    by_hand = torch.where(marked().bool().unsqueeze(-1), picture(), torch.tensor([128.0, 128.0, 128.0]) / 255)
    found, kept = cut_out().args
    same(tokens(found), tokens(by_hand))
    assert not torch.allclose(tokens(found), tokens(picture()), atol=1e-3)
    assert tokens(found, image_mask=kept).shape == tokens(picture()).shape


def test_encode_takes_a_crop_as_the_part_cut_by_hand(tokens):
    found, mask = crop_around().args
    same(tokens(found), tokens(picture()[:, 8:32, 16:40]))
    assert not torch.allclose(tokens(found), tokens(picture()), atol=1e-3)
    assert tokens(found, image_mask=mask).shape == tokens(picture()).shape


def test_encode_takes_tiles_as_that_many_references(tokens):
    found, count = tile().args
    together = tokens(found)
    assert together.shape[1] == count * TOKENS
    apart = torch.cat([tokens(one[None]) for one in found], dim=1)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
    assert count > 1


# Instruct Prepare Reference


@pytest.mark.parametrize(
    ("background", "colour"),
    [("#f80", (255, 136, 0)), (" #FF8800 ", (255, 136, 0)), ("orange", (255, 165, 0)), ("#12345678", (18, 52, 86))],
)
def test_a_colour_may_be_typed_in_every_usual_way(background, colour):
    found = cut_out(background=background, mask=torch.zeros(1, 8, 8)).args[0]
    same(found, (torch.tensor(colour) / 255).expand(1, 40, 60, 3))


def test_the_colour_that_was_drawn_is_said_and_gives_the_same_when_typed():
    drawn = cut_out(background="random", seed=7)
    (said,) = drawn.ui["text"]
    typed = cut_out(background=said.removeprefix("background: "), seed=8)
    same(typed.args[0], drawn.args[0])
    assert not torch.equal(cut_out(background="Random", seed=8).args[0], drawn.args[0])


@pytest.mark.parametrize("invert", [False, True])
def test_cut_out_and_crop_is_a_crop_of_the_cut_out_around_what_was_kept(invert):
    mask = 1 - marked() if invert else marked()
    found = prepare("cut out and crop", mask=mask, invert=invert, background="random", seed=3)
    image, kept = prepare("cut out", mask=mask, invert=invert, background="random", seed=3).args
    for one, other in zip(found.args, prepare("crop", image=image, mask=kept).args, strict=True):
        same(one, other)
    assert [line.split(":")[0] for line in found.ui["text"]] == ["background", "square"]


def test_a_crop_of_what_is_black_is_inverted_too():
    for one, other in zip(crop_around(mask=1 - marked(), invert=True).args, crop_around().args, strict=True):
        same(one, other)


def test_an_unknown_action_is_refused():
    refused(lambda: prepare("cut"), "action was expected to be one of cut out, crop, cut out and crop", "it is 'cut'")


@pytest.mark.parametrize("call", [cut_out, crop_around, tile])
def test_a_picture_with_alpha_becomes_rgb(call):
    same(call(image=picture(channels=4)).args[0], call(image=picture(channels=4)[..., :3]).args[0])


def test_the_mask_that_is_handed_out_is_what_was_kept():
    image, inverted = picture(), 1 - marked(20, 30)
    found, kept = cut_out(image=image, mask=inverted, invert=True, feather=3.0).args
    assert kept.shape == (1, 40, 60)
    grey = torch.tensor([128.0] * 3) / 255
    torch.testing.assert_close(found, grey + kept.unsqueeze(-1) * (image - grey), rtol=0, atol=1e-6)
    assert float(kept.mean()) == pytest.approx(float((1 - inverted).mean()), rel=0.1)
    assert ((kept > 0.2) & (kept < 0.8)).any()


def test_invert_keeps_what_is_opaque_in_a_picture_of_load_image(tmp_path, monkeypatch):
    pixels = numpy.zeros((20, 30, 4), dtype=numpy.uint8)
    pixels[5:15, 5:15] = (200, 40, 40, 255)
    Image.fromarray(pixels).save(tmp_path / "object.png")
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    image, mask = host_nodes.LoadImage().load_image("object.png")

    found, kept = cut_out(image=image, mask=mask, background="lime", invert=True).args

    expected = torch.tensor([0.0, 1.0, 0.0]).expand(1, 20, 30, 3).clone()
    expected[:, 5:15, 5:15] = torch.tensor([200, 40, 40]) / 255
    same(found, expected)
    same(kept, torch.from_numpy(pixels[None, ..., 3] / 255).float())


def test_inputs_are_not_changed():
    image, mask = picture(channels=4), marked()
    before = image.clone(), mask.clone()
    for call in (cut_out, crop_around):
        for output in call(image=image, mask=mask).args:
            output.add_(1)
    tile(image=image, max_tiles=1).args[0].add_(1)
    same(image, before[0])
    same(mask, before[1])


# Instruct Tile Reference


def test_the_count_and_the_grid_are_said():
    found = tile(image=picture(2, 40, 40))
    assert found.args[1] == len(found.args[0]) == 10
    assert found.ui["text"] == ("10 squares of 22 pixels; 2 x 2 tiles (rows x columns) a picture",)


# What they refuse


@pytest.mark.parametrize("background", ["no such colour", "", "#12345", "rgb(1, 2)"])
def test_a_text_that_is_no_colour_is_refused_with_examples(background):
    refused(lambda: cut_out(background=background), "background", "#808080", "random", repr(background), "Type")


@pytest.mark.parametrize("call", [cut_out, crop_around, tile])
def test_a_picture_of_nan_is_refused(call):
    refused(lambda: call(image=torch.full((1, 8, 8, 3), float("nan"))), "The image was expected", "NaN")


@pytest.mark.parametrize("call", [cut_out, crop_around])
def test_a_mask_of_nan_and_a_wrong_number_of_masks_are_refused(call):
    refused(lambda: call(mask=torch.full((1, 8, 8), float("nan"))), "mask was expected", "NaN")
    refused(lambda: call(mask=torch.ones(3, 8, 8)), "mask was expected", "each of the 1 picture", "3 masks", "Connect")


def test_a_crop_around_nothing_is_refused():
    refused(lambda: crop_around(mask=torch.zeros(1, 64, 64)), "mask was expected", "picture 1", "empty", "Paint")


# What the page is told


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_input_and_output_is_explained_and_taken_by_its_name(node):
    schema = node.GET_SCHEMA()
    assert schema.node_id == node.__name__
    assert schema.category == "IPAdapter-Instruct/prepare"
    assert schema.description
    assert all(each.tooltip for each in (*schema.inputs, *schema.outputs))
    code = node.execute.__func__.__code__
    assert list(code.co_varnames[1 : code.co_argcount]) == [each.id for each in schema.inputs]
