"""Beside ComfyUI_IPAdapter_plus: one picture through it, one through this pack, on the same model.

Expected are the oracle's results with the same node, or laws. `order` is where the other node stands to Apply.
"""

import pytest
import torch
from safetensors.torch import save_file
from support import small_plain_adapters
from support.other_nodes.other_packs import module_of, nodes_of, outputs_of
from support.other_nodes.with_other_node import agree, leave_each_other_alone, orders, stand_on_both_sides
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import OracleForm, PackForm
from support.sampling.short_runs import close

NAME = "ComfyUI_IPAdapter_plus"
EMBEDS = torch.randn(4, 1, small_plain_adapters.POOLED, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def nodes():
    return nodes_of(NAME)


@pytest.fixture
def adapter(nodes, tmp_path):
    """A small plain adapter, as its own loader reads the file."""
    path = tmp_path / "ip-adapter_sd15.safetensors"
    save_file(small_plain_adapters.tensors("base"), path)
    return module_of(NAME, "utils").ipadapter_model_loader(str(path))


@pytest.fixture
def incumbent(nodes, adapter):
    def patch_with(weight: float = 0.7, picture: int = 0, node: str = "IPAdapterEmbeds", **settings):
        inputs = {
            "ipadapter": adapter,
            "pos_embed": EMBEDS[picture : picture + 1] if node == "IPAdapterEmbeds" else EMBEDS[picture:],
            "neg_embed": torch.zeros(1, 1, small_plain_adapters.POOLED),
            "weight": weight,
            "weight_type": "linear",
            "start_at": 0.0,
            "end_at": 1.0,
            **settings,
        }
        return lambda model: outputs_of(nodes[node], model, **inputs)[0]

    return patch_with


VARIANTS = {
    "linear": {},
    "style transfer": {"weight_type": "style transfer"},
    "K+V": {"embeds_scaling": "K+V"},
    "in its own steps": {"start_at": 0.6},
    "in a mask": {"attn_mask": torch.cat([torch.ones(1, 16, 8), torch.zeros(1, 16, 16)], dim=-1)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_it_acts_as_without_this_pack(scene, order, incumbent, name):
    agree(scene, incumbent(**VARIANTS[name]), order)


def test_two_of_it_stand_on_both_sides(scene, incumbent):
    stand_on_both_sides(scene, incumbent(0.7), incumbent(0.4, picture=1))


def test_each_latent_keeps_its_own_picture(scene, order, incumbent):
    prepare, change = orders(incumbent(node="IPAdapterEmbedsBatch", picture=2), order)
    forms = (form(scene, prepare) for form in (PackForm, OracleForm))
    found, expected = (ksampler(form, change(form.model), batch=2) for form in forms)
    close(found, expected)
    assert not torch.allclose(found, ksampler(PackForm(scene), batch=2), atol=0.01)


def test_weight_0_of_either_leaves_the_other_alone(bare, embeds, order, incumbent):
    leave_each_other_alone(bare, embeds, order, incumbent)
