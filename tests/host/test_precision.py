"""Models in fewer bits, loaded in part, and compiled: the same picture within what each may cost.

Tolerances are of the largest value of the latents after three steps.
"""

import gc
import shutil
import weakref
from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
import torch._dynamo
from comfy.ldm.modules import attention
from comfy.ldm.modules.diffusionmodules import mmdit
from comfy_api.torch_helpers import set_torch_compile_wrapper
from ipadapter_instruct.models.families import SD3
from support import small_models
from support.golden_cases import golden_case
from support.precisions import PRECISIONS
from support.sampling.short_runs import close, same, sample

THREE_WAY = {"guidance": "three-way", "image_scale": 0.5}  # all four branches


FEWER_BITS = [name for name in PRECISIONS if name != "fp32"]


@pytest.fixture(scope="module")
def picture(family, embeds):
    """The picture that the float32 model makes with the adapter."""
    with torch.inference_mode():
        return sample(small_models.applied(small_models.small_model(family), embeds, **THREE_WAY))


def in_float32(family: str, rounded):
    model = small_models.small_model(family)
    model.model.diffusion_model.load_state_dict(rounded.model.diffusion_model.state_dict())
    return model


@pytest.mark.spread("family", "name")
@pytest.mark.parametrize("name", FEWER_BITS)
def test_a_model_in_fewer_bits_gives_nearly_the_same_picture(family, embeds, picture, name):
    precision = PRECISIONS[name]
    bare = precision.model(family)
    assert bare.model_dtype() == precision.weights

    found = sample(small_models.applied(bare, embeds, **THREE_WAY))

    assert found.isfinite().all()
    close(found, sample(small_models.applied(in_float32(family, bare), embeds, **THREE_WAY)), precision.computing)
    close(found, picture, precision.rounding)
    effect = (found - sample(bare)).abs().max() / found.abs().max()
    assert effect > 0.4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_in_fewer_bits_gives_nearly_the_same_picture(family, picture, dtype):
    """The adapter is computed in float32 whatever it is kept in, so what differs is its rounding alone."""
    case = golden_case(family)
    half = small_models.small_adapter(family, change=lambda name, weight: weight.to(dtype))
    rounded = small_models.small_adapter(family, change=lambda name, weight: weight.to(dtype).float())
    found, expected = (
        sample(
            small_models.applied(
                small_models.small_model(family), small_models.InstructEmbeds(adapter, "", tokens), **THREE_WAY
            )
        )
        for adapter, tokens in ((adapter, small_models.golden_tokens(case, adapter)) for adapter in (half, rounded))
    )

    same(found, expected)
    close(found, picture, 0.05 if dtype == torch.bfloat16 else 0.01)


@pytest.fixture
def room(monkeypatch):
    """The share of each model's weights that ComfyUI is allowed to load, set by calling this; then all are unloaded."""
    original, share = mm.LoadedModel.model_load, 1.0

    def model_load(self, lowvram_model_memory=0, force_patch_weights=False):
        memory = 0 if share == 1.0 else share * self.model_memory() or 0.1
        return original(self, memory, force_patch_weights)

    def allow(wanted: float) -> None:
        nonlocal share
        mm.unload_all_models()
        share = wanted

    monkeypatch.setattr(mm.LoadedModel, "model_load", model_load)
    yield allow
    allow(1.0)


def loaded(patcher) -> bool:
    return any(entry.model is patcher for entry in mm.current_loaded_models)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_model_that_is_loaded_in_part_gives_the_same_picture(family, embeds, picture, room, share):
    model = small_models.applied(small_models.small_model(family), embeds, **THREE_WAY)
    room(share)
    same(sample(model), picture)

    parts = [model] + ([embeds.adapter.streams] if family == "sd3" else [])
    for part in parts:
        assert loaded(part)
        assert part.model.model_lowvram
        assert part.loaded_size() <= share * part.model_size()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_adapter_that_is_loaded_in_part_gives_the_same_tokens(family, embeds, room, share):
    room(share)
    same(embeds.adapter.image_tokens(*golden_case(family).features("full")), embeds.image_tokens.full)
    assert embeds.adapter.image_projection.model.model_lowvram


PATCHED = {  # SD3's image tokens pass the context embedder, so a LoRA on it acts on them too
    "sd15": "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_q.weight",
    "sdxl": "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_q.weight",
    "sd3": "diffusion_model.context_embedder.weight",
}


def test_a_lora_acts_the_same_on_a_model_that_is_loaded_in_part(family, embeds, picture, room):
    bare = small_models.small_model(family)
    weight = bare.model.state_dict()[PATCHED[family]]
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    bare.add_patches({PATCHED[family]: ("diff", (change,))})
    model = small_models.applied(bare, embeds, **THREE_WAY)

    expected = sample(model)
    room(0.0)
    close(sample(model), expected)
    assert model.model.lowvram_patch_counter == 1
    assert not torch.allclose(expected, picture, atol=1e-3)


def test_sd3s_stream_weights_are_loaded_with_the_model_and_unloaded_with_everything():
    embeds = small_models.golden_embeds("sd3")
    model = small_models.applied(small_models.small_model("sd3"), embeds)
    streams = embeds.adapter.streams
    mm.unload_all_models()
    assert not loaded(streams)

    sample(model)
    assert loaded(model)
    assert loaded(streams)
    assert streams.loaded_size() == streams.model_size() > 0

    mm.unload_all_models()
    assert not loaded(model)
    assert not loaded(streams)
    assert streams.loaded_size() == 0


def test_the_adapters_weights_go_with_the_last_model_it_is_applied_to(family):
    embeds = replace(small_models.golden_embeds(family), adapter=small_models.small_adapter(family))
    model = small_models.applied(small_models.small_model(family), embeds)
    sample(model)
    adapter = embeds.adapter
    weights = [weakref.ref(module) for module in (adapter.image_projection.model, adapter.projections)]
    weights += [weakref.ref(adapter.streams.model)] if adapter.family is SD3 else []
    clone = model.clone()

    del embeds, adapter, model
    gc.collect()
    assert all(weight() is not None for weight in weights)
    sample(clone)

    del clone
    gc.collect()
    mm.cleanup_models()
    assert all(weight() is None for weight in weights)
    assert all(entry.model is not None for entry in mm.current_loaded_models)


@pytest.fixture
def compiler(monkeypatch):
    """torch.compile with torch's own attention, as on a GPU: ComfyUI's for the CPU looks up free memory in between."""
    torch._dynamo.reset()
    for module in (attention, mmdit):
        monkeypatch.setattr(module, "optimized_attention", attention.attention_pytorch)
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def compiled(model, backend: str):
    """Compile as the node TorchCompileModel does, which offers inductor and cudagraphs only."""
    clone = model.clone()
    set_torch_compile_wrapper(model=clone, backend=backend)
    return clone


COMPILED = [
    ("sd15", "eager", "before"),
    ("sd3", "eager", "before"),
    ("sd3", "eager", "after"),
    pytest.param(
        *("sd3", "inductor", "after"),
        marks=[
            pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU"),
            pytest.mark.long("eager takes the same graphs"),
        ],
    ),
]


@pytest.mark.parametrize(("family", "backend", "order"), COMPILED)
def test_a_compiled_model_gives_the_same_picture_and_compiles_once(family, backend, order, compiler):
    """eager takes the same graphs as inductor and does not translate them, which takes up to a minute a model here."""
    embeds = small_models.golden_embeds(family)
    bare = small_models.small_model(family)
    plain = small_models.applied(bare, embeds, **THREE_WAY)
    if order == "before":
        model = small_models.applied(compiled(bare, backend), embeds, **THREE_WAY)
    else:
        model = compiled(plain, backend)

    compiler.clear()
    found = sample(model)
    assert compiler["stats"]["unique_graphs"] == 1
    assert not compiler["graph_break"]
    close(found, sample(plain))

    same(sample(model), found)
    assert compiler["stats"]["unique_graphs"] == 1
