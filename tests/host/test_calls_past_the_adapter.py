"""Calls that go past the adapter, or bring it a part of what it expects: the run stops and says so, or is the same.

Such are functions that run the denoiser themselves, that keep predictions, or that cut up the batch or the picture.
`order` is where the other node stands to Apply.
"""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from ipadapter_instruct.models.attention_maps.record import watched
from support import small_models
from support.other_nodes.with_other_node import agree, applied_with, copying_its_options, with_function_wrapper
from support.other_nodes.wrapping import tile_by_tile, with_wrapper
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import OracleForm, PackForm
from support.sampling.short_runs import close, same, sample


@pytest.fixture(scope="module")
def family() -> str:
    return "sd15"


def positive_once_more(executor, model, conds, x_in, timestep, model_options):
    """The step's lists, and the first of them again by itself."""
    found = executor(model, conds, x_in, timestep, model_options)
    (again,) = executor(model, conds[:1], 0.9 * x_in, timestep, model_options)
    return [found[0] + 0.1 * (again - found[0]), *found[1:]]


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
    tiles = args["input"].split(args["input"].shape[-1] // 2, dim=-1)
    return torch.cat([apply_model(tile, args["timestep"], **args["c"]) for tile in tiles], dim=-1)


@pytest.mark.parametrize("tiling", [tile_by_tile, one_tile_a_call])
def test_a_mask_is_refused_where_a_call_has_tiles_of_the_picture(bare, embeds, order, tiling):
    mask = torch.zeros(1, 8, 12)
    mask[..., :3] = 1
    with pytest.raises(ValueError, match="attn_mask.*\\(8, 12\\).*\\(8, 6\\).*tiles"):
        sample(applied_with(with_function_wrapper(tiling), order, bare, embeds, mask, guidance="simple"))


def test_rows_that_another_node_repeats_in_the_attention_are_refused(bare, embeds, order):
    def repeats(model):
        model = model.clone()
        model.set_model_attn2_patch(
            lambda q, k, v, extra_options: (q.repeat(2, 1, 1), k.repeat(2, 1, 1), v.repeat(2, 1, 1))
        )
        model.set_model_attn2_output_patch(lambda n, extra_options: n.chunk(2)[0])
        return model

    torch.testing.assert_close(sample(repeats(bare)), sample(bare), rtol=1e-4, atol=1e-2)  # sums may differ
    with pytest.raises(ValueError, match="2 rows was expected.*it has 4"):
        sample(applied_with(repeats, order, bare, embeds, guidance="simple"))
