"""Beside layer diffusion, which replaces a model's attention by modules of its own, or changes its weights.

`order` is where its node stands to Apply.
"""

import pytest
import torch
from safetensors.torch import save_file
from support import small_models
from support.other_nodes.other_packs import module_of, nodes_of, outputs_of
from support.other_nodes.with_other_node import CHAINS, MODES, agree, applied_with
from support.sampling.scenes import Scene
from support.sampling.short_runs import same, sample

NAME = "ComfyUI-layerdiffuse"
ATTENTION = "SD15, Attention Injection, attn_sharing"
CONVOLUTION = "SDXL, Conv Injection"


@pytest.fixture
def layered(tmp_path, monkeypatch):
    """Its node, with small files in the place of the ones it would download."""
    node = nodes_of(NAME)["LayeredDiffusionApply"]
    monkeypatch.setattr(module_of(NAME, "layered_diffusion"), "layer_model_root", str(tmp_path))
    sharing = module_of(NAME, "lib_layerdiffusion.attention_sharing")
    made = torch.Generator().manual_seed(7)
    names = sharing.AttentionSharingPatcher(small_models.small_model("sd15"), 1, use_control=False).state_dict()
    sharing_file = {name: 0.1 * torch.randn(weight.shape, generator=made) for name, weight in names.items()}
    weights = small_models.small_model("sdxl").model.state_dict()
    changed = [name for name in weights if name.endswith(("attn2.to_k.weight", "input_blocks.0.0.weight"))]
    difference = {f"{name}::diff::0": 0.1 * torch.randn(weights[name].shape, generator=made) for name in changed}
    save_file(sharing_file, tmp_path / "layer_sd15_transparent_attn.safetensors")
    save_file(difference, tmp_path / "layer_xl_transparent_conv.safetensors")
    configurations = dict(zip((ATTENTION, CONVOLUTION), (node.MODELS[2], node.MODELS[1]), strict=True))
    return lambda model, kind: outputs_of(node, model, configurations[kind].config_string, 1.0)[0]


@pytest.mark.parametrize("guidance", MODES)
def test_replaced_attention_leaves_no_way_in_and_the_words_say_so(layered, order, bare, embeds, guidance):
    with pytest.raises(ValueError, match="AttentionSharingUnit.*no way in.*[Bb]ypass"):
        sample(applied_with(lambda model: layered(model, ATTENTION), order, bare, embeds, guidance=guidance))


@pytest.mark.parametrize("guidance", MODES)
def test_the_plain_checkpoint_goes_on_when_another_clone_has_other_attention(layered, bare, embeds, guidance):
    expected = sample(small_models.applied(bare, embeds, guidance=guidance))
    layers = layered(bare, ATTENTION)
    ran_alone(layers)
    same(sample(small_models.applied(bare, embeds, guidance=guidance)), expected)


def test_weight_0_leaves_replaced_attention_as_it_is(layered, order, bare, embeds):
    if not ran_alone(layered(bare, ATTENTION)):
        pytest.skip("layer diffusion's attention does not run in this ComfyUI by itself")
    model = applied_with(lambda m: layered(m, ATTENTION), order, bare, embeds, weight=0.0, guidance="three-way")
    same(sample(model), sample(layered(bare, ATTENTION)))


def ran_alone(model) -> bool:
    """Whether a layered model samples without this pack. Where it does not, it has been loaded all the same."""
    try:
        sample(model)
    except TypeError as error:
        assert "transformer_options" in str(error)  # ComfyUI gives them to its attention; the replaced one takes none
        return False
    return True


@pytest.mark.parametrize("guidance", CHAINS)
def test_changed_weights_act_as_without_the_adapter(layered, order, guidance):
    agree(Scene("sdxl", CHAINS[guidance]), lambda model: layered(model, CONVOLUTION), order)
