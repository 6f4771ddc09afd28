"""The table of base models."""

import pytest
from ipadapter_instruct.models.families import FAMILIES, MMDIT, SD3, SD15, SDXL, UNET, family_of_adapter


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_is_known_by_its_token_width_and_kind_of_attention(family):
    assert family_of_adapter(family.context_width, family.denoiser, "attention") is family


def test_published_widths_are_the_base_models():
    assert {family.name: family.context_width for family in FAMILIES} == {"sd15": 768, "sdxl": 2048, "sd3": 4096}


def test_a_width_that_no_family_has_is_refused_with_the_widths_that_there_are():
    with pytest.raises(
        ValueError, match=r"width 1024 to cross-attention; known widths are SD1.5 768, SDXL 2048\. Load "
    ):
        family_of_adapter(1024, UNET, "cross-attention")


def test_a_known_width_of_the_other_kind_of_attention_is_refused():
    with pytest.raises(ValueError, match=r"width 768 to joint attention; known widths are SD3 4096\. Load "):
        family_of_adapter(768, MMDIT, "joint attention")


@pytest.mark.parametrize(("family", "text"), [(SD15, "blurry"), (SDXL, ""), (SD3, "blurry")])
def test_the_resampler_gets_the_negative_prompt_except_for_sdxl(family, text):
    assert family.resampler_negative("blurry") == text


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_published_file_is_linked_directly(family):
    assert family.url == (
        f"https://huggingface.co/CiaraRowles/IP-Adapter-Instruct/resolve/main/ip-adapter-instruct-{family.name}.bin"
    )
