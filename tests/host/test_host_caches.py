"""The demands of ComfyUI's caches on the pack's outputs, by the host's own functions."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_patcher
import comfy_execution.caching
import pytest
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds, switch_embeds
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.image_encoder import EncoderFile
from support import small_encoders, small_models
from support.devices import dynamic_vram

all_outputs_dynamic = getattr(comfy_execution.caching, "all_outputs_dynamic", None)
pytestmark = dynamic_vram.needs_dynamic_vram
FAMILIES = ("sd15", "sd3")


@pytest.fixture(params=[True, False], ids=["dynamic", "plain"])
def is_dynamic(request, monkeypatch) -> bool:
    if request.param:
        dynamic_vram.switch_on(monkeypatch)
    return request.param


def own_embeds(family: str) -> InstructEmbeds:
    """Embeds of an adapter that is made now, as the test's ComfyUI has it."""
    return replace(small_models.golden_embeds(family), adapter=small_models.small_adapter(family))


def outputs(family: str) -> dict:
    embeds = own_embeds(family)
    return {
        "adapter": AdapterWithEncoders(embeds.adapter, None),
        "embeds": embeds,
        "timed embeds": switch_embeds(embeds, own_embeds(family), 0.5),
    }


def models(embeds) -> set[int]:
    adapter = embeds.adapter
    return {id(part) for part in (adapter.image_projection, adapter.streams) if part is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_output_that_holds_an_adapter_is_known_as_one_that_holds_models(family, is_dynamic):
    for output in outputs(family).values():
        assert comfy.model_patcher.is_model_patcher_output(output)
        assert all_outputs_dynamic([[output]]) is is_dynamic


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_of_a_running_prompt_are_in_use_until_it_ends(family, is_dynamic):
    embeds, other = own_embeds(family), own_embeds(family)
    encoder = EncoderFile("vit_h.safetensors", None)
    for output, expected in (
        (AdapterWithEncoders(embeds.adapter, encoder), models(embeds)),
        (embeds, models(embeds)),
        (switch_embeds(embeds, other, 0.5), models(embeds) | models(other)),
    ):
        tracker = comfy.model_patcher.PromptModelTracker()
        tracker.start()
        tracker.add([output])
        assert {id(model) for model in tracker.models.values()} == (expected if is_dynamic else set())
        assert all(in_use(model) for model in tracker.models.values())
        used = list(tracker.models.values())
        tracker.end()
        assert not any(in_use(model) for model in used)


def in_use(model) -> bool:
    return model.model.dynamic_pins[model.load_device]["current_prompt"]


def test_an_encoder_is_among_the_models_once_it_is_read():
    encoder = EncoderFile("vit_h.safetensors", None)
    output = AdapterWithEncoders(small_models.small_adapter(), encoder)
    own = output.get_models()
    encoder.model = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    assert output.get_models() == [*own, encoder.load().patcher]


def test_connected_encoders_are_among_the_models():
    clip_vision = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    instruct_clip = small_encoders.load_text_encoder("sd15")
    output = AdapterWithEncoders(small_models.small_adapter(), None, clip_vision, instruct_clip)
    assert output.get_models() == [*output.adapter.get_models(), clip_vision.patcher, instruct_clip.patcher]
