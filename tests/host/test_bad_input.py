"""Wrong connections, through the nodes themselves: every message says what was expected, what
was found and what to do."""

from dataclasses import replace

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from ipadapter_instruct.models.encoding.text_encoder import conditionings, encode_texts
from ipadapter_instruct.models.files.tensor_cache import TensorCache
from ipadapter_instruct.models.training.dataset import Encoders, encode_pairs
from ipadapter_instruct.models.training.pairs import Pair
from support import small_encoders, small_models
from support.golden_cases import golden_case
from support.node_runs.model_files import GET_VIT_H, encode, load
from support.node_runs.node_inputs import NAN, apply
from support.refusals import refused

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embeds(folders, vit_h):
    """By family, from the nodes."""
    return {family: encode(vit_h, load(f"{family}.safetensors")).args[0] for family in ("sd15", "sdxl", "sd3")}


def unet(context_width: int):
    """A small UNet as of another base model. It is only looked at, so it holds no weights."""
    config = {**golden_case("sd15").config["unet_config"], "context_dim": context_width, "dtype": torch.float32}
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(config), device="cpu")
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def mmdit():
    """A small SD3 without weights."""
    sizes = {"depth": 1, "in_channels": 16, "adm_in_channels": 64, "pos_embed_max_size": 8}
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64}}
    config = comfy.supported_models.SD3({**sizes, "context_embedder_config": embedder, "dtype": torch.float32})
    model = comfy.model_base.SD3(config, device="cpu")
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def test_the_nodes_accept_what_is_right(folders, vit_h):
    embeds, positive, negative = encode(vit_h).args
    assert all(tokens.isfinite().all() for _, tokens in embeds.image_tokens.items())
    assert [len(conditioning) for conditioning in (positive, negative)] == [1, 1]
    assert len(apply().args) == 1


# Connections to Encode


def test_a_connected_encoder_of_the_wrong_width_is_refused(folders):
    wrong = small_encoders.clip_vision(width=960, layers=2, patches=2)
    parts = ("needs the image encoder ViT-H", "the connected one is an encoder 960 wide", GET_VIT_H)
    refused(lambda: encode(wrong), *parts)


def test_a_connected_encoder_without_a_class_token_is_refused(folders):
    config = {**small_encoders.vit_config(width=1280, layers=2, patches=2), "model_type": "siglip_vision_model"}
    wrong = small_encoders.clip_vision_of(config)
    refused(lambda: encode(wrong), "needs the image encoder ViT-H", "the connected one is no CLIP", GET_VIT_H)


def test_a_checkpoint_without_a_clip_is_refused(folders, vit_h):
    refused(lambda: encode(vit_h, clip=None), "A CLIP was expected", "none came", "Connect a Load CLIP")


def test_a_clip_without_clip_l_is_refused(folders, vit_h):
    wrong = small_encoders.sd3_clip_without_clip_l()
    parts = ("CLIP-L text encoder was expected", "SD3ClipModel", "Connect the CLIP of")
    refused(lambda: encode(vit_h, clip=wrong), *parts)
    refused(lambda: encode(vit_h, instruct_clip=wrong), *parts)


@pytest.mark.parametrize("text", ["instruction", "prompt", "negative_prompt", "negative_instruction"])
def test_half_an_emoji_in_any_text_is_refused_in_words(folders, vit_h, text):
    cut = "use the style \U0001f3a8".encode("utf-16-le")[:-2].decode("utf-16-le", "surrogatepass")
    parts = ("A text was expected to be made of whole characters", "letter 15 is half", "the style", "Delete it")
    refused(lambda: encode(vit_h, **{text: cut}), *parts)
    whole = encode(vit_h, **{text: "use the style \U0001f3a8"})
    assert whole.args[0].image_tokens.full.isfinite().all()


@pytest.mark.parametrize("read", [encode_texts, conditionings])
def test_half_an_emoji_is_refused_wherever_texts_are_encoded(read):
    refused(
        lambda: read(small_encoders.small_clip(), ["a", "\udc00"]),
        "A text was expected",
        "letter 1 is half",
        "Delete it",
    )


def test_half_an_emoji_in_what_is_trained_is_refused_before_anything_is_encoded(tmp_path):
    pair = Pair("a pair", None, None, "a cat \ud83d", "style", ("use the style",))
    encode = lambda pairs: encode_pairs(  # noqa: E731
        pairs, Encoders(small_encoders.small_clip(), None, None, (16, 16)), None, TensorCache(tmp_path), None
    )
    refused(lambda: encode([pair]), "A caption or instruction was expected", "letter 7 is half", "Delete it")
    other = replace(pair, caption="a cat", instructions=("use the style", "\ud83d"))
    refused(lambda: encode([other]), "A caption or instruction was expected", "letter 1 is half", "Delete it")
    assert not list(tmp_path.iterdir())


def test_another_clip_may_read_the_instruction(folders, vit_h):
    own, other = small_encoders.small_clip(), small_encoders.small_clip(seed=1)
    picture = torch.rand(1, 40, 50, 3)
    plain, with_other, other_alone = (
        encode(vit_h, image=picture, **clips).args
        for clips in ({"clip": own}, {"clip": own, "instruct_clip": other}, {"clip": other})
    )
    assert torch.equal(with_other[0].image_tokens.full, other_alone[0].image_tokens.full)
    assert torch.equal(with_other[1][0][0], plain[1][0][0])  # the prompts are the own clip's


def test_a_fit_that_there_is_not_is_refused(folders, vit_h):
    refused(lambda: encode(vit_h, fit="centre crop"), "fit", "center crop, pad, stretch", "'centre crop'", "Choose")


def test_a_guidance_that_there_is_not_is_refused():
    refused(lambda: apply(guidance="three way"), "guidance", "auto, simple, three-way", "'three way'", "Choose")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ip-adapter-instruct-sdxl.bin", "Get https://huggingface.co/CiaraRowles/IP-Adapter-Instruct"),
        ("mine.safetensors", "Put it there, or refresh the page (R)"),
    ],
)
def test_an_adapter_file_that_is_not_there_is_named_with_what_to_do(folders, name, remedy):
    refused(lambda: load(name), name, str(folders["ipadapter"]), "is not there", remedy)


NO_PICTURE = "At least one picture was expected"
IMAGES = {
    "an empty batch": (torch.rand(0, 40, 50, 3), (NO_PICTURE, "[0, 40, 50, 3]", "Check the node")),
    "no height": (torch.rand(1, 0, 50, 3), (NO_PICTURE, "[1, 0, 50, 3]", "Check the node")),
    "NaN": (torch.full((1, 40, 50, 3), NAN), ("values from 0 to 1", "NaN", "Check the node")),
    "infinite": (torch.full((1, 40, 50, 3), torch.inf), ("values from 0 to 1", "infinite", "Check the node")),
    "no batch": (torch.rand(40, 50, 3), ("[batch, height, width, 3 or 4 channels]", "[40, 50, 3]", "Connect")),
    "a latent": (torch.rand(1, 4, 8, 8), ("[batch, height, width, 3 or 4 channels]", "[1, 4, 8, 8]", "Connect")),
    "one channel": (torch.rand(1, 40, 50, 1), ("3 or 4 channels]", "[1, 40, 50, 1]", "convert")),
}


@pytest.mark.parametrize("case", IMAGES)
def test_an_image_that_is_none_is_refused(folders, vit_h, case):
    image, parts = IMAGES[case]
    refused(lambda: encode(vit_h, image=image), *parts)


NO_MASK = "was expected to be a mask"
MASKS = {
    "NaN": (torch.full((1, 8, 8), NAN), (NO_MASK, "[1, 8, 8] with values that are not numbers", "Check the node")),
    "empty": (torch.zeros(0, 8, 8), (NO_MASK, "[0, 8, 8]", "Check the node")),
    "one dimension": (torch.zeros(8), (NO_MASK, "[8]", "Check the node")),
    "a picture": (torch.rand(1, 8, 8, 3), (NO_MASK, "[1, 8, 8, 3]", "picture of 3 channels", "Convert Image to Mask")),
    "with alpha": (torch.rand(2, 8, 8, 4), (NO_MASK, "[2, 8, 8, 4]", "picture of 4 channels", "Image to Mask")),
    "channels first": (torch.rand(2, 3, 8, 8), (NO_MASK, "[2, 3, 8, 8]", "Check the node")),
    "of two batches": (torch.rand(2, 1, 2, 8, 8), (NO_MASK, "[2, 1, 2, 8, 8]", "Check the node")),
    "no tensor": ([torch.rand(1, 8, 8)], (NO_MASK, "it is list", "Check the node")),
}


@pytest.mark.parametrize("case", MASKS)
def test_an_image_mask_that_is_none_is_refused(folders, vit_h, case):
    mask, parts = MASKS[case]
    refused(lambda: encode(vit_h, image_mask=mask), "image_mask", *parts, "leave image_mask unconnected")


def test_image_masks_of_another_number_than_the_pictures_are_refused(folders, vit_h):
    parts = ("one for each of the 2 picture", "it is 3 masks", "Connect a single mask")
    refused(lambda: encode(vit_h, image_mask=torch.zeros(3, 8, 8)), *parts)


# Connections to Apply


@pytest.mark.parametrize("case", MASKS)
def test_an_attention_mask_that_is_none_is_refused(case):
    mask, parts = MASKS[case]
    refused(lambda: apply(attn_mask=mask), "attn_mask", *parts, "leave attn_mask unconnected")


def test_a_start_after_the_end_is_refused():
    refused(lambda: apply(start_percent=0.7, end_percent=0.3), "at most end_percent", "0.7 and 0.3", "Swap them")


SD15_UNET, SD2_UNET, REFINER, SDXL_UNET = ((unet, width) for width in (768, 1024, 1280, 2048))
MMDIT = (mmdit,)
ON_ANOTHER_MODEL = {
    "SDXL's on SD1.5": ("sdxl", SD15_UNET, ("SDXL (context width 2048)", "SD1.5 (768)", "Connect an SDXL model")),
    "SD1.5's on SDXL": ("sd15", SDXL_UNET, ("SD1.5 (context width 768)", "SDXL (2048)", "Connect an SD1.5 model")),
    "SD1.5's on SD2": ("sd15", SD2_UNET, ("for SD1.5", "context of width 1024", "Connect a full SD1.5 model")),
    "SDXL's on its refiner": ("sdxl", REFINER, ("for SDXL", "context of width 1280", "Connect a full SDXL base")),
    "SD1.5's on a lesser one": ("sd15", SD15_UNET, ("3 attention layers", "has 16 of widths", "Connect a full SD1.5")),
    "SD1.5's on SD3": ("sd15", MMDIT, ("for SD1.5", "(SD3) is not SD1.5's UNet", "Connect an SD1.5 model")),
    "SDXL's on SD3": ("sdxl", MMDIT, ("for SDXL", "(SD3) is not SDXL's UNet", "Connect an SDXL model")),
    "SD3's on SD1.5": ("sd3", SD15_UNET, ("for SD3", "is not SD3's MMDiT", "Connect an SD3 model")),
    "SD3's on a lesser one": ("sd3", MMDIT, ("3 attention layers", "has 1 of widths", "Connect SD3 medium")),
}


@pytest.mark.parametrize("case", ON_ANOTHER_MODEL)
def test_an_adapter_on_another_base_model_is_refused(embeds, case):
    family, (make, *sizes), parts = ON_ANOTHER_MODEL[case]
    refused(lambda: apply(model=make(*sizes), embeds=embeds[family]), "This adapter is", *parts)


def test_a_refused_apply_leaves_the_model_as_it_was():
    model = small_models.small_model()
    before = dict(model.model_options["transformer_options"])
    refused(lambda: apply(model=model, attn_mask=torch.full((1, 8, 8), NAN)), "attn_mask")
    assert model.model_options["transformer_options"] == before
    assert model.wrappers == {}
