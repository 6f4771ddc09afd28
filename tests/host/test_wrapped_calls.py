"""Beside other packs that attend to images of their own, or wrap, cut up and repeat calls of the model.

Expected are the oracle's results with the same node, or laws. `order` is where the other node stands to Apply.
"""

from collections.abc import Callable

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy.utils import repeat_to_batch_size
from ipadapter_instruct.models.attention_maps.record import watched
from support import small_models
from support.other_nodes.small_control_net import small_control_net, with_control
from support.other_nodes.with_other_node import (
    agree,
    applied_with,
    changed_call,
    chunk_by_chunk,
    copying_its_options,
    leave_each_other_alone,
    orders,
    stand_on_both_sides,
    with_function_wrapper,
)
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


def with_wrapper(kind: str, wrapper: Callable):
    def patch(model):
        model = model.clone()
        model.add_wrapper_with_key(kind, "other pack", wrapper)
        return model

    return patch


def tile_by_tile(apply_model, args):
    """Two tiles of the picture in one call: all chunks of the first, then all chunks of the second.

    What has the latent's dimensions is cut like it, such as the picture that an inpainting model is given.

    Source: shiimizu/ComfyUI-TiledDiffusion@a155b1ba, `MultiDiffusion.__call__`.
    """

    def cut(whole):
        return torch.cat([whole[..., :12], whole[..., 12:]])

    tiles, c = cut(args["input"]), dict(args["c"])
    for name, value in c.items():
        if isinstance(value, torch.Tensor):
            c[name] = cut(value) if value.ndim == tiles.ndim else repeat_to_batch_size(value, len(tiles))
    out = apply_model(tiles, repeat_to_batch_size(args["timestep"], len(tiles)), **c)
    return torch.cat(out.chunk(2), dim=-1)


def after_another_pass(executor, x, *args, **kwargs):
    """A first pass over other latents, such as a reference's, whose result is not this call's."""
    return executor(x, *args, **kwargs) + 0.01 * executor(x.flip(-1), *args, **kwargs)


def positive_once_more(executor, model, conds, x_in, timestep, model_options):
    """The step's lists, and the first of them again by itself."""
    found = executor(model, conds, x_in, timestep, model_options)
    (again,) = executor(model, conds[:1], 0.9 * x_in, timestep, model_options)
    return [found[0] + 0.1 * (again - found[0]), *found[1:]]


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
    """Of the predictions that three-way guidance adds up, each has its own side's strength.

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


# Functions that do not call what they are given


def run_by_itself(base, args, **options):
    """The denoiser run as the host runs it; the same numbers. As DeepCache does where it caches nothing."""
    sampling, c = base.model_sampling, args["c"]
    x, t = sampling.calculate_input(args["timestep"], args["input"]), sampling.timestep(args["timestep"]).float()
    out = base.diffusion_model(x, t, context=c["c_crossattn"], y=c.get("y"), control=c.get("control"), **options)
    return sampling.calculate_denoised(args["timestep"], out, args["input"])


def first_layer_by_itself(base, args):
    """Only a part of the denoiser, as a node that walks through the blocks."""
    denoiser = base.diffusion_model
    if hasattr(denoiser, "input_blocks"):
        denoiser.input_blocks[0][0](base.model_sampling.calculate_input(args["timestep"], args["input"]))
    else:
        denoiser.x_embedder(args["input"])
    return args["input"]


def wrapper_of(kind: str, model):
    base, calls = model.model, []

    def with_options(apply_model, args):
        return run_by_itself(base, args, transformer_options=args["c"]["transformer_options"])

    def without_options(apply_model, args):
        return run_by_itself(base, args, transformer_options={})

    def from_the_second_step_on(apply_model, args):
        calls.append(args)
        if len(calls) == 1:
            return apply_model(args["input"], args["timestep"], **args["c"])
        return without_options(apply_model, args)

    def block_by_block(apply_model, args):
        return first_layer_by_itself(base, args)

    def not_at_all(apply_model, args):
        return args["input"] * 0.5

    return locals()[kind]


DO_NOT_CALL = {
    "with_options": "runs the denoiser itself",
    "without_options": "runs the denoiser itself",
    "from_the_second_step_on": "runs the denoiser itself",
    "block_by_block": "runs the denoiser itself",
    "not_at_all": "gives predictions without calling it",
}


@pytest.mark.spread("family", "kind")
@pytest.mark.parametrize("family", small_models.FAMILIES)
@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("kind", DO_NOT_CALL)
def test_a_function_that_goes_past_the_adapter_stops_the_run_with_words(family, kind, guidance, order):
    model, embeds = small_models.small_model(family), small_models.golden_embeds(family)
    expected = sample(small_models.applied(model, embeds, guidance=guidance))
    past = with_function_wrapper(wrapper_of(kind, model))
    changed = applied_with(past, order, model, embeds, guidance=guidance)
    for _ in range(2):
        words = f"A call of ComfyUI's model was expected.*DeepCache.*{kind}.*{DO_NOT_CALL[kind]}.*Bypass"
        with pytest.raises(ValueError, match=words):
            sample(changed)
    same(sample(small_models.applied(model, embeds, guidance=guidance)), expected)
    same(sample(applied_with(past, order, model, embeds, guidance=guidance, weight=0.0)), sample(past(model)))


def test_a_wrapper_that_goes_past_those_behind_it_stops_the_run_with_words(bare, embeds):
    def straight_on(executor, x, t, *args, **kwargs):
        return executor.class_obj._apply_model(x, t, *args, **kwargs)

    changed = applied_with(with_wrapper(WrappersMP.APPLY_MODEL, straight_on), "before", bare, embeds)
    with pytest.raises(ValueError, match="A call of ComfyUI's model was expected.*runs the denoiser itself"):
        sample(changed)


def test_a_wrapper_that_takes_the_step_to_itself_stops_the_run_with_words(bare, embeds):
    def by_itself(executor, *step):
        return executor.original(*step)

    past = with_wrapper(WrappersMP.CALC_COND_BATCH, by_itself)
    changed = applied_with(past, "before", bare, embeds, guidance="three-way", end_percent=0.5)
    with pytest.raises(ValueError, match="A call of ComfyUI's model was expected.*calls it past the wrappers"):
        sample(changed)
    same(sample(applied_with(past, "before", bare, embeds, weight=0.0)), sample(past(bare)))


def test_a_function_that_calls_every_second_time_gives_what_it_keeps(scene):
    """A cache of predictions: what it gives again was made with the adapter."""

    def every_second(model):
        kept = []

        def wrapper(apply_model, args):
            if not kept:
                kept.append(apply_model(args["input"], args["timestep"], **args["c"]))
                return kept[0]
            return kept.pop()

        return with_function_wrapper(wrapper)(model)

    found, expected = (ksampler(form, every_second(form.model)) for form in (f(scene) for f in (PackForm, OracleForm)))
    close(found, expected)


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_a_call_with_a_copy_of_its_options_is_the_same_and_is_watched(bare, embeds, guidance):
    model, watch = watched(small_models.applied(bare, embeds, guidance=guidance))
    expected, share = sample(model), watch.mean()
    same(sample(with_function_wrapper(copying_its_options)(model)), expected)
    same(watch.mean(), share)


def test_a_step_may_be_asked_for_more_before_the_adapter_acts(scene):
    agree(scene, with_wrapper(WrappersMP.CALC_COND_BATCH, positive_once_more), "before")


def test_a_call_with_a_part_of_the_batch_that_says_not_which_is_refused(bare, embeds, order):
    def last_chunk_first(apply_model, args):
        count = len(args["cond_or_uncond"])
        parts = [
            {k: v.chunk(count)[number] if isinstance(v, torch.Tensor) else v for k, v in args["c"].items()}
            for number in reversed(range(count))
        ]
        x, t = (list(reversed(args[name].chunk(count))) for name in ("input", "timestep"))
        found = [apply_model(*latents, **part) for *latents, part in zip(x, t, parts, strict=True)]
        return torch.cat(list(reversed(found)))

    model = applied_with(with_function_wrapper(last_chunk_first), order, bare, embeds, guidance="simple")
    with pytest.raises(ValueError, match="1 latent.* 2 conditions"):
        sample(model)


def one_tile_a_call(apply_model, args):
    tiles = args["input"].split(12, dim=-1)
    return torch.cat([apply_model(tile, args["timestep"], **args["c"]) for tile in tiles], dim=-1)


@pytest.mark.parametrize("tiling", [tile_by_tile, one_tile_a_call])
def test_a_mask_is_refused_where_a_call_has_tiles_of_the_picture(bare, embeds, order, tiling):
    mask = torch.zeros(1, 16, 24)
    mask[..., :6] = 1
    with pytest.raises(ValueError, match="attn_mask.*\\(16, 24\\).*\\(16, 12\\).*tiles"):
        sample(applied_with(with_function_wrapper(tiling), order, bare, embeds, mask, guidance="simple"))


def test_rows_that_another_node_repeats_in_the_attention_are_refused(bare, embeds, order):
    def repeats(model):
        model = model.clone()
        model.set_model_attn2_patch(
            lambda q, k, v, extra_options: (q.repeat(2, 1, 1), k.repeat(2, 1, 1), v.repeat(2, 1, 1))
        )
        model.set_model_attn2_output_patch(lambda n, extra_options: n.chunk(2)[0])
        return model

    assert torch.equal(sample(repeats(bare)), sample(bare))
    with pytest.raises(ValueError, match="2 rows was expected.*it has 4"):
        sample(applied_with(repeats, order, bare, embeds, guidance="simple"))
