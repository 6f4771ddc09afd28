"""Beside other packs that attend to images of their own, or wrap, cut up and repeat calls of the model.

Expected are the oracle's results with the same node, or laws. `order` is where the other node stands to Apply.
"""

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from support import small_models
from support.other_nodes.small_control_net import small_control_net, with_control
from support.other_nodes.with_other_node import (
    agree,
    applied_with,
    changed_call,
    chunk_by_chunk,
    leave_each_other_alone,
    orders,
    stand_on_both_sides,
    with_function_wrapper,
)
from support.other_nodes.wrapping import tile_by_tile, with_wrapper
from support.sampling.host_samplers import ksampler, pair
from support.sampling.scenes import Link, OracleForm, PackForm, Scene, text
from support.sampling.short_runs import close, same, sample


@pytest.fixture(scope="module")
def family() -> str:
    return "sd15"


# An image adapter of the usual make


class Attn2Replace:
    """Computes the text's attention itself, then adds what its callbacks make of it, each in its own noise levels.

    Source: the shape that cubiq/ComfyUI_IPAdapter_plus, and the packs that follow it, put into patches_replace.
    """

    def __init__(self, callback, **kwargs):
        self.callback, self.kwargs = [callback], [kwargs]

    def add(self, callback, **kwargs):
        self.callback.append(callback)
        self.kwargs.append(kwargs)

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        sigma = extra_options["sigmas"].detach().cpu()[0].item()
        for callback, kwargs in zip(self.callback, self.kwargs, strict=True):
            if kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]:
                out = out + callback(out, q, k, v, extra_options, **kwargs)
        return out.to(dtype=q.dtype)


def image_attention(out, q, k, v, extra_options, tokens, weight, sigma_start, sigma_end):
    """Its tokens are a pair, of which cond_or_uncond chooses one for each chunk of the batch."""
    sides = extra_options["cond_or_uncond"]
    latents = q.shape[0] // len(sides)
    if weight == 0:
        return 0
    keys = torch.cat([tokens[side].repeat(latents, 1, 1) for side in sides])
    return weight * optimized_attention(q, keys, keys, extra_options["n_heads"])


def usual_adapter(weight: float, seed: int = 0):
    """On three layers. On a layer that has one of its make already it is added to that one's callbacks."""

    def patch(model):
        model = model.clone()
        options = model.model_options["transformer_options"]
        replacements = options.setdefault("patches_replace", {}).setdefault("attn2", {})
        for key, width in ((("input", 1, 0), 32), (("output", 3), 128), (("middle", 0), 128)):
            made = torch.Generator().manual_seed(seed + width)
            kwargs = {
                "tokens": [torch.randn(1, 4, width, generator=made) for _ in ("cond", "uncond")],
                "weight": weight,
                "sigma_start": 999999999.9,
                "sigma_end": 1.0,
            }
            if key in replacements:
                replacements[key].add(image_attention, **kwargs)
            else:
                replacements[key] = Attn2Replace(image_attention, **kwargs)
        return model

    return patch


def test_an_adapter_of_the_usual_make_acts_as_without_this_one(scene, order):
    agree(scene, usual_adapter(0.7), order)


def test_adapters_of_the_usual_make_stand_on_both_sides(scene):
    stand_on_both_sides(scene, usual_adapter(0.7), usual_adapter(0.4, seed=1))


def test_weight_0_of_either_adapter_leaves_the_other_alone(bare, embeds, order):
    leave_each_other_alone(bare, embeds, order, usual_adapter)


# Wrappers around calls of the model


def after_another_pass(executor, x, *args, **kwargs):
    """A first pass over other latents, such as a reference's, whose result is not this call's."""
    return executor(x, *args, **kwargs) + 0.01 * executor(x.flip(-1), *args, **kwargs)


CALLS = {
    "changed call": with_function_wrapper(changed_call),
    "chunk by chunk": with_function_wrapper(chunk_by_chunk),
    "tile by tile": with_function_wrapper(tile_by_tile),
    "another pass": with_wrapper(WrappersMP.DIFFUSION_MODEL, after_another_pass),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_the_model_may_be_wrapped(scene, order, name):
    prepare, change = orders(CALLS[name], order)
    pack, oracle = PackForm(scene, prepare), OracleForm(scene, prepare)
    found, expected = (ksampler(form, change(form.model), batch=2) for form in (pack, oracle))
    close(found, expected)
    alike = torch.allclose(found, ksampler(PackForm(scene), batch=2), atol=0.01)
    assert alike == (name == "chunk by chunk")


@pytest.mark.parametrize("image_scale, sides", [(0.5, [1, 0, 0, 1]), (1.0, [0, 0, 1])])
def test_a_function_is_told_two_sides_however_many_passes_there_are(bare, embeds, order, image_scale, sides):
    told = []

    def look(apply_model, args):
        told.append((args["cond_or_uncond"], args["c"]["transformer_options"]["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    settings = {"guidance": "three-way", "image_scale": image_scale}
    found = sample(applied_with(with_function_wrapper(look), order, bare, embeds, **settings))
    same(found, sample(small_models.applied(bare, embeds, **settings)))
    assert told == [(sides, sides)] * len(told)


def weaker_on_the_negative(control, factor: float, told: list):
    """A ControlNet that acts less on the negative, and keeps the sides that it is told.

    Source: Kosinkadink/ComfyUI-Advanced-ControlNet@9e60d8a, `uncond_multiplier`; its method is the object's own, too.
    """
    get_control = control.get_control

    def own(x, t, cond, batched_number, transformer_options):
        outputs = get_control(x, t, cond, batched_number, transformer_options)
        told.append(transformer_options["cond_or_uncond"])
        factors = torch.tensor([1.0, factor])[told[-1]].repeat_interleave(len(x) // batched_number)[:, None, None, None]
        return {name: [o if o is None else o * factors for o in layers] for name, layers in outputs.items()}

    control.get_control = own


@pytest.mark.parametrize("image_scale, sides", [(0.5, [1, 0, 0, 1]), (1.0, [0, 0, 1])])
def test_a_control_net_is_told_two_sides_however_many_passes_there_are(image_scale, sides):
    """The predictions that three-way guidance adds up, each with its own side's strength.

    Both texts are one, since each of the oracle's conditions asks the ControlNet once, with its own text.
    """
    scene = Scene(links=(Link(image_scale=image_scale),), negative=text("positive", "sd15"))
    told, pack, oracle = [], PackForm(scene), OracleForm(scene)
    weaker, plain, of_oracle = (with_control(small_control_net(), pair(form)) for form in (pack, pack, oracle))
    control = weaker[0][0][1]["control"]
    weaker_on_the_negative(control, 0.2, told)
    before = control.get_control
    found = ksampler(pack, batch=2, conds=weaker)
    oracle.model.model.control_on_negative = 0.2
    close(found, ksampler(oracle, batch=2, conds=of_oracle))
    assert told and told == [sides] * len(told)
    assert control.get_control is before
    assert not torch.allclose(found, ksampler(pack, batch=2, conds=plain), atol=0.01)
    assert "get_control" not in vars(plain[0][0][1]["control"])
