"""Beside other things in the same graph: another pack's attention, a LoRA, a ControlNet."""

import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from support.other_nodes.small_control_net import small_control_net, with_control
from support.other_nodes.small_lora import small_lora
from support.other_nodes.with_other_node import CHAINS, agree
from support.sampling.host_samplers import ksampler, pair
from support.sampling.scenes import OracleForm, PackForm, Scene
from support.sampling.short_runs import close


class OtherPack:
    """An image adapter of the usual make: it replaces attn2 and picks its tokens by cond_or_uncond."""

    def __init__(self, width: int):
        made = torch.Generator().manual_seed(width)
        self.tokens = [torch.randn(2, 1, 4, width, generator=made) for _ in ("cond", "uncond")]

    def __call__(self, q, k, v, extra_options):
        heads, sides = extra_options["n_heads"], extra_options["cond_or_uncond"]
        latents = q.shape[0] // len(sides)
        keys, values = torch.cat([self.tokens[side].expand(-1, latents, -1, -1) for side in sides], dim=1)
        return optimized_attention(q, k, v, heads) + 0.5 * optimized_attention(q, keys, values, heads)


def with_other_pack(index: int | None):
    """Replaces three layers under their two-part keys, or with an index under their three-part keys."""

    def patch(model):
        model = model.clone()
        for block, width in ((("input", 1), 32), (("output", 3), 128), (("middle", 0), 128)):
            model.set_model_attn2_replace(OtherPack(width), *block, index)
        return model

    return patch


@pytest.mark.parametrize("index", [None, 0], ids=["two-part key", "three-part key"])
def test_another_packs_attention_goes_on_working(scene, order, index):
    agree(scene, with_other_pack(index), order, apart=0.05)


def test_a_lora_acts_as_without_the_adapter(scene, order):
    def lora(model):
        return comfy.sd.load_lora_for_models(model, None, small_lora(), 0.7, 0.0)[0]

    agree(scene, lora, order, apart=0.05)


def test_a_control_net_acts_as_without_the_adapter():
    scene, control = Scene(links=CHAINS["simple"]), small_control_net()
    pack, oracle = PackForm(scene), OracleForm(scene)
    controlled = [ksampler(form, conds=with_control(control, pair(form))) for form in (pack, oracle)]
    close(*controlled)
    assert not torch.allclose(controlled[0], ksampler(pack), atol=0.05)


def test_a_control_net_never_sees_the_image_tokens(scene):
    control = small_control_net()
    seen = []
    transformers = [m for m in control.control_model.modules() if hasattr(m, "attn2")]

    def look(module, args, kwargs, out):  # a replaced attention would not come by here
        seen.append(kwargs["context"])

    for transformer in transformers:
        transformer.attn2.register_forward_hook(look, with_kwargs=True)
    form = PackForm(scene)
    ksampler(form, conds=with_control(control, pair(form)))

    texts = [scene.positive.context[0], scene.negative.context[0]]
    rows = [row for context in seen for row in context]
    assert len(seen) >= len(transformers)
    assert all(any(torch.equal(row, text) for text in texts) for row in rows)
