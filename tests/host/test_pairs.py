"""Every adapter on every kind of model, at their published sizes: three pairs fit, and the others are refused in words.

Where nothing is computed the weights are on torch's meta device, which holds their shapes alone.
"""

import comfy.model_detection
import comfy.model_patcher
import pytest
import torch
from comfyhost.adapters import instruct_adapter
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from support import small_models
from support.golden_cases import golden_case, made_up_weights
from support.published.site_widths import SITES, TOKEN_WIDTHS
from support.sampling.short_runs import close, sample

CPU = torch.device("cpu")
FAMILIES = ("sd15", "sdxl", "sd3")
TITLES = {"sd15": "SD1.5", "sdxl": "SDXL", "sd3": "SD3"}

UNET = {
    **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_head_channels": 64},
    **{"use_spatial_transformer": True, "legacy": False, "use_checkpoint": False},
    **{"use_temporal_attention": False, "use_temporal_resblock": False},
}
SDXL = {**UNET, "num_classes": "sequential", "use_linear_in_transformer": True}


def mmdit(depth: int, side: int, **more) -> dict:
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    sizes = {"in_channels": 16, "patch_size": 2, "input_size": None, "adm_in_channels": 2048, "depth": depth}
    positions = {"num_patches": side * side, "pos_embed_max_size": side, "pos_embed_scaling_factor": None}
    return {**sizes, **positions, "context_embedder_config": embedder, **more}


# What ComfyUI reads off the published checkpoints. Source: its model_detection.py, Stability's model cards.
MODELS = {
    "sd15": {
        **UNET,
        **{"num_heads": 8, "num_head_channels": -1, "use_linear_in_transformer": False, "adm_in_channels": None},
        **{"context_dim": 768, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth_middle": 1},
        **{"transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3},
    },
    "sdxl": {
        **SDXL,
        **{"adm_in_channels": 2816, "context_dim": 2048, "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4]},
        **{"transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10},
        "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3,
    },
    "sdxl refiner": {
        **SDXL,
        **{"adm_in_channels": 2560, "context_dim": 1280, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4]},
        **{"model_channels": 384, "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0], "transformer_depth_middle": 4},
        "transformer_depth_output": [0] * 3 + [4] * 6 + [0] * 3,
    },
    "sd3": mmdit(24, 192),
    "sd3.5 medium": mmdit(24, 384, qk_norm="rms", x_block_self_attn_layers=list(range(13))),
    "sd3.5 large": mmdit(38, 192, qk_norm="rms"),
}


@pytest.fixture(scope="module")
def model():
    """A ModelPatcher of the model with this name, as ComfyUI makes it of such a checkpoint."""
    made = {}

    def of(name: str):
        if name not in made:
            config = comfy.model_detection.model_config_from_unet_config(MODELS[name])
            config.set_inference_dtype(torch.float16, None)
            made[name] = comfy.model_patcher.ModelPatcher(config.get_model({}, device=torch.device("meta")), CPU, CPU)
        return made[name]

    return of


@pytest.fixture(scope="module")
def embeds():
    """The embeds that Encode gives with the published adapter of this family."""

    def of(family: str):
        shapes = {name: weight.shape for name, weight in instruct_adapter(family, SITES[family]).items()}
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        adapter = LoadedAdapter("published.bin", recognise(tensors))
        return small_models.InstructEmbeds(
            adapter, "use the style", Branches(*[torch.zeros(1, 16, TOKEN_WIDTHS[family])] * 4)
        )

    return of


def refusal(model, embeds) -> str:
    with pytest.raises(ValueError) as caught:
        apply_instruct(model, embeds, ApplySettings())
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_fits_the_model_of_its_family(model, embeds, family):
    patched, choices = apply_instruct(model(family), embeds(family), ApplySettings())
    assert patched is not model(family)
    assert not any(line.startswith("note") for line in choices)


MISMATCHED = [(adapter, other) for adapter in FAMILIES for other in FAMILIES if adapter != other]


@pytest.mark.parametrize(("adapter", "other"), MISMATCHED)
def test_an_adapter_on_the_model_of_another_family_is_refused_with_both_names_and_what_to_do(
    model, embeds, adapter, other
):
    message = refusal(model(other), embeds(adapter))

    assert f"This adapter is for {TITLES[adapter]} (context width {TOKEN_WIDTHS[adapter]})" in message
    assert any(f"{verb} {TITLES[other]}" in message for verb in ("the connected model is", "but"))
    assert f"Connect an {TITLES[adapter]} model" in message
    assert f"load the {TITLES[other]} adapter (ip-adapter-instruct-{other}.bin)" in message


@pytest.mark.parametrize("adapter", FAMILIES)
def test_sdxls_refiner_is_refused(model, embeds, adapter):
    message = refusal(model("sdxl refiner"), embeds(adapter))

    assert f"This adapter is for {TITLES[adapter]}" in message
    assert "SDXLRefiner" in message
    if adapter == "sdxl":
        assert "has 44 of widths 20 x 768, 24 x 1536, for context of width 1280" in message
        assert "Connect a full SDXL base model, not its refiner" in message


def test_sd35_medium_is_allowed_and_the_user_is_told_what_the_adapter_was_trained_on(model, embeds):
    _, choices = apply_instruct(model("sd3.5 medium"), embeds("sd3"), ApplySettings())
    (note,) = (line for line in choices if line.startswith("note"))
    assert "SD3.5 medium" in note
    assert "trained on SD3 medium" in note


def test_sd35_large_is_refused_with_the_reason(model, embeds):
    message = refusal(model("sd3.5 large"), embeds("sd3"))

    assert "This adapter is for SD3 (context width 4096) with 12 attention layers of widths 12 x 1536" in message
    assert "has 19 of widths 19 x 2432" in message
    assert "SD3.5 large is wider than the adapter" in message


def dual_model(change=lambda name, weight: weight, **sizes):
    """The small SD3 model with a second attention in its first three blocks; `change` may change its weights."""
    case, made = golden_case("sd3"), small_models.FAMILIES["sd3"]
    config = made.config_class({"dtype": torch.float32})
    sizes = {**made.sizes(case.config), "x_block_self_attn_layers": [0, 1, 2], **sizes}
    config.unet_config = {"dtype": torch.float32, **sizes}
    model = small_models.SmallModel(config, made.model_type, device="cpu", unet_model=made.denoiser_class)
    shapes = {name: list(weight.shape) for name, weight in model.diffusion_model.state_dict().items()}
    weights = made_up_weights(7, shapes)
    for name, weight in case.base_weights.items():  # of the modulations these are the first two thirds
        weights[name][: len(weight)] = weight
    model.diffusion_model.load_state_dict({name: change(name, weight) for name, weight in weights.items()})
    model.family = "sd3"
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


@pytest.fixture(scope="module")
def golden():
    return small_models.golden_embeds("sd3")


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_dual_blocks_whose_second_attention_adds_nothing_give_sd3s_picture(golden, guidance):
    silent = dual_model(lambda name, weight: weight * 0 if ".attn2.proj." in name else weight)
    expected = sample(small_models.applied(small_models.small_model("sd3"), golden, guidance=guidance))
    close(sample(small_models.applied(silent, golden, guidance=guidance)), expected)


def test_an_adapter_acts_on_sd35_mediums_joint_attention_and_leaves_its_self_attention_as_it_is(golden):
    bare = dual_model(qk_norm="rms")
    block = bare.model.diffusion_model.joint_blocks[0].x_block
    seen = {"attn": [], "attn2": []}
    hooks = [
        getattr(block, name).proj.register_forward_hook(lambda module, args, out, calls=calls: calls.append(args[0]))
        for name, calls in seen.items()
    ]
    picture = sample(small_models.applied(bare, golden, guidance="simple"))
    plain = sample(bare)
    for hook in hooks:
        hook.remove()

    assert picture.isfinite().all()
    assert not torch.allclose(picture, plain, atol=0.05)
    # Both runs start from the same noise, and the first block is the first to see an adapter.
    (joint, *_), (self_attention, *_) = seen.values()
    bare_joint, bare_self = (calls[len(calls) // 2] for calls in seen.values())
    assert torch.equal(self_attention, bare_self)
    assert not torch.allclose(joint, bare_joint, atol=1e-3)
