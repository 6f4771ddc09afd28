"""Beside TiledDiffusion, which cuts the picture into tiles inside each call of the model.

Expected are the oracle's results with the same node, or laws. `order` is where the other node stands to Apply.
"""

import pytest
import torch
from support import small_models
from support.other_nodes.other_packs import nodes_of, outputs_of
from support.other_nodes.with_other_node import CHAINS, applied_with, orders
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import OracleForm, PackForm, Scene
from support.sampling.short_runs import close, same, sample

METHODS = {  # and how many tiles a call of the model holds
    "MultiDiffusion": 4,
    "MultiDiffusion, tile by tile": 1,
    "Mixture of Diffusers": 4,
    "SpotDiffusion": 4,
}


@pytest.fixture(scope="module")
def nodes():
    return nodes_of("ComfyUI-TiledDiffusion")


@pytest.fixture(params=METHODS)
def method(request) -> str:
    return request.param


@pytest.fixture
def tiled(nodes, method):
    """Six tiles of 12 x 12 in the small latent of 16 x 24."""

    def patch(model, size: int = 6):
        name, in_a_call = method.partition(",")[0], METHODS[method]
        return outputs_of(nodes["TiledDiffusion"], model, name, 8 * size, 8 * size, 32, in_a_call)[0]

    return patch


@pytest.mark.parametrize("guidance", CHAINS)
def test_tiles_are_as_without_the_adapter(tiled, order, guidance):
    scene = Scene(links=CHAINS[guidance])
    prepare, change = orders(tiled, order)
    pack, oracle = PackForm(scene, prepare), OracleForm(scene, prepare)
    found, expected = (ksampler(form, change(form.model), batch=2) for form in (pack, oracle))
    close(found, expected)
    assert not torch.allclose(found, ksampler(PackForm(scene), batch=2), atol=0.01)


def test_weight_0_leaves_tiles_as_they_are(tiled, bare, embeds, order):
    model = applied_with(tiled, order, bare, embeds, weight=0.0, guidance="three-way")
    same(sample(model), sample(tiled(bare)))


def test_a_mask_is_refused_where_a_call_has_tiles_of_the_picture(tiled, bare, embeds, order):
    mask = torch.zeros(1, 8, 12)
    mask[..., :3] = 1
    model = applied_with(tiled, order, bare, embeds, mask, guidance="simple")
    with pytest.raises(ValueError, match="attn_mask.*\\(8, 12\\).*\\(6, 6\\).*tiles"):
        sample(model)


def test_a_mask_acts_where_one_tile_holds_the_whole_picture(tiled, bare, embeds, order):
    mask = torch.zeros(1, 8, 12)
    mask[..., :3] = 1
    model = applied_with(lambda m: tiled(m, size=32), order, bare, embeds, mask, guidance="three-way")
    close(sample(model), sample(small_models.applied(bare, embeds, mask, guidance="three-way")))
