"""Animations sampled in windows of their frames: which latents a call holds, and that each keeps its own."""

import inspect

import pytest
import torch
from comfy.context_windows import IndexListContextHandler, IndexListContextWindow
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.patching.batch_index import WholeLatent, batch_indices_of_call, divide_call
from ipadapter_instruct.models.patching.run import RUN
from support import small_models
from support.host_node import host_node
from support.sampling.short_runs import close, noise, same, sample

FRAMES, WINDOW, OVERLAP = 5, 3, 1
MODES = ["simple", "three-way"]
WHOLE = WholeLatent(16, (8, 12))


def taken(function, **newer) -> dict:
    """The arguments that this ComfyUI's function takes."""
    return {name: value for name, value in newer.items() if name in inspect.signature(function).parameters}


def host_options(batch_indices, dim=0) -> dict:
    newer = taken(IndexListContextWindow, total_frames=WHOLE.latents)
    return {"context_window": IndexListContextWindow(batch_indices, dim, **newer)}


def animatediff_options(batch_indices, full_length=16) -> dict:
    return {"ad_params": {"full_length": full_length, "context_length": 4, "sub_idxs": batch_indices}}


@pytest.mark.parametrize("options", [host_options, animatediff_options])
@pytest.mark.parametrize("batch_indices", [[0, 1, 2], [14, 15, 0], [4, 6, 8]], ids=["start", "loop", "stride"])
def test_a_call_in_a_window_holds_the_windows_frames(options, batch_indices):
    assert batch_indices_of_call(options(batch_indices), 3, WHOLE) == tuple(batch_indices)


@pytest.mark.parametrize("options", [{}, {"ad_params": None}, animatediff_options(None), {"context_window": object()}])
def test_a_call_outside_any_window_holds_the_whole_batch(options):
    assert batch_indices_of_call(options, 16, WHOLE) is None


@pytest.mark.parametrize("options", [host_options, animatediff_options])
def test_a_window_left_behind_by_an_earlier_call_counts_no_more(options):
    assert batch_indices_of_call(options([4, 5, 6]), 16, WHOLE) is None
    assert divide_call(stated(16, **options([4, 5, 6])), 32, 2, 16, WHOLE) == (tuple(range(16)), 1)


@pytest.mark.parametrize("options", [host_options, animatediff_options])
@pytest.mark.parametrize("latents", [2, 4, 5])
def test_a_window_that_does_not_fit_its_call_stops_the_run(options, latents):
    match = rf"window of 3 .*\(4, 5, 6\).* holds {latents} of 16 latents.*bypass"
    with pytest.raises(ValueError, match=match):
        batch_indices_of_call(options([4, 5, 6]), latents, WHOLE)
    with pytest.raises(ValueError, match=match):
        divide_call(stated(latents, **options([4, 5, 6])), 2 * latents, 2, latents, WHOLE)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_window_along_another_dimension_holds_no_frames(dim):
    assert batch_indices_of_call(host_options([4, 5, 6], dim), 3, WHOLE) is None


def test_animatediff_without_a_window_leaves_the_hosts_window_to_count():
    assert batch_indices_of_call({**animatediff_options(None), **host_options([2, 3])}, 2, WHOLE) == (2, 3)


def stated(latents: int, **options) -> dict:
    """The host's account of a call's batch: a noise level for each latent of a chunk."""
    return {"sigmas": torch.ones(latents), **options}


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_a_call_of_the_hosts_own_holds_one_tile(chunks):
    assert divide_call(stated(3), 3 * chunks, chunks, 3, WHOLE) == ((0, 1, 2), 1)
    assert divide_call(stated(3, **host_options([4, 5, 6])), 3 * chunks, chunks, 3, WHOLE) == ((4, 5, 6), 1)


def test_a_part_of_the_batch_that_the_host_batched_itself_counts_as_a_batch():
    assert divide_call(stated(2), 6, 3, 8, WHOLE) == ((0, 1), 1)


def test_one_noise_level_for_all_latents_says_nothing_of_their_number():
    assert divide_call(stated(1), 6, 2, 3, WHOLE) == ((0, 1, 2), 1)
    assert divide_call(stated(1, **animatediff_options([7])), 2, 2, 5, WHOLE) == ((7,), 1)


def test_a_call_with_tiles_holds_them_all_of_the_same_latents():
    assert divide_call(stated(2), 2 * 3 * 4, 3, 2, WHOLE) == ((0, 1), 4)
    assert divide_call(stated(2, **animatediff_options([5, 6])), 2 * 3 * 4, 3, 8, WHOLE) == ((5, 6), 4)


@pytest.mark.parametrize("rows, chunks", [(1, 2), (2, 2), (5, 2), (3, 2), (0, 1)])
def test_a_call_whose_rows_are_nobodys_is_refused(rows, chunks):
    with pytest.raises(ValueError, match=f"2 latent.* {chunks} conditions was expected; it has {rows} in all.*bypass"):
        divide_call(stated(2), rows, chunks, 2, WHOLE)


class Handler(IndexListContextHandler):
    """ComfyUI's own, but for a line of 0.3.75 that fails for more than one latent and that later versions mended."""

    def set_step(self, timestep, model_options):
        super().set_step(timestep[:1], model_options)


def in_host_windows(model, schedule: str = "standard_static", fuse: str = "flat", dim: int = 0, **newer):
    """newer: inputs that came later; without them as the node itself has them, with the frame before each window."""
    newer = taken(ContextWindowsManualNode.execute, **{"freenoise": False, **newer})
    model = host_node(ContextWindowsManualNode, model, WINDOW, OVERLAP, schedule, 1, True, fuse, dim, **newer)[0]
    model.model_options["context_handler"].__class__ = Handler
    return model


has_anchors = pytest.mark.skipif(
    "causal_window_fix" not in inspect.signature(ContextWindowsManualNode.execute).parameters,
    reason="this ComfyUI puts no frame before a window",
)


def in_animatediff_windows(model):
    """AnimateDiff-Evolved's sliding context: a wrapper that hands on parts of the batch and of the conditions' lists.

    A step begins with the window that the step before ended with.

    Source: Kosinkadink/ComfyUI-AnimateDiff-Evolved@d8d163cd, `sliding_calc_cond_batch` and `create_exposed_params`.
    """
    left = {"sub_idxs": None}

    def sliding(executor, base, conds, x_in, timestep, model_options):
        options = model_options["transformer_options"]
        options["ad_params"] = {"full_length": len(x_in), "context_length": WINDOW, **left}
        totals, counts = [torch.zeros_like(x_in) for _ in conds], torch.zeros(len(x_in), 1, 1, 1)
        for batch_indices in ([0, 1, 2], [2, 3, 4], [4, 0, 1]):
            options["ad_params"]["sub_idxs"] = left["sub_idxs"] = batch_indices
            lists = [None if own is None else [cond.copy() for cond in own] for own in conds]
            found = executor(base, lists, x_in[batch_indices], timestep[batch_indices], model_options)
            for total, part in zip(totals, found, strict=True):
                total[batch_indices] += part
            counts[batch_indices] += 1
        return [total / counts for total in totals]

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "sliding", sliding)
    return model


WINDOWS = {
    "static": in_host_windows,
    "looped": lambda model: in_host_windows(model, "looped_uniform"),
    "batched": lambda model: in_host_windows(model, "batched", "pyramid"),
    "animatediff": in_animatediff_windows,
}
SINCE_ANCHORS = {
    "without anchors": lambda model: in_host_windows(model, causal_window_fix=False),
    "looped without anchors": lambda model: in_host_windows(model, "looped_uniform", causal_window_fix=False),
    "a kept frame": lambda model: in_host_windows(model, latent_retain_index_list="0"),
}


@pytest.fixture(params=[*WINDOWS, *(pytest.param(name, marks=has_anchors) for name in SINCE_ANCHORS)])
def windows(request):
    return {**WINDOWS, **SINCE_ANCHORS}[request.param]


@pytest.fixture(scope="module")
def family() -> str:
    return "sd15"


@pytest.fixture(scope="module")
def animation(bare):
    return noise(bare, FRAMES, 8, 12)


def both_orders(windows, bare, embeds, mask=None, **settings):
    """The windows' node before Apply, and after it."""
    return (
        small_models.applied(windows(bare), embeds, mask, **settings),
        windows(small_models.applied(bare, embeds, mask, **settings)),
    )


@pytest.mark.parametrize("guidance", MODES)
def test_windows_do_not_change_what_every_frame_shares(windows, bare, embeds, animation, guidance):
    expected = sample(small_models.applied(bare, embeds, guidance=guidance), animation)
    for model in both_orders(windows, bare, embeds, guidance=guidance):
        close(sample(model, animation), expected)


def test_weight_0_leaves_windows_as_they_are(windows, bare, embeds, animation):
    expected = sample(windows(bare), animation)
    for model in both_orders(windows, bare, embeds, weight=0.0, guidance="three-way"):
        same(sample(model, animation), expected)


@pytest.mark.parametrize("guidance", MODES)
def test_every_frame_keeps_its_own_mask_in_windows(windows, bare, embeds, animation, guidance):
    masks = torch.zeros(FRAMES, 8, 12)
    for number, mask in enumerate(masks):
        mask[:, 2 * number : 2 * number + 4] = 1
    expected = sample(small_models.applied(bare, embeds, masks, guidance=guidance), animation)
    for model in both_orders(windows, bare, embeds, masks, guidance=guidance):
        close(sample(model, animation), expected)


@pytest.mark.parametrize("guidance", MODES)
def test_the_frames_of_a_call_are_the_latents_it_holds(windows, bare, embeds, animation, guidance):
    seen = []

    def look(executor, x, t, *args):
        options = args[-1]
        latents = len(x) // len(options["uuids"])
        seen.append((x, batch_indices_of_call(options, latents, options[RUN].whole), latents))
        return executor(x, t, *args)

    def calls(model):
        seen.clear()
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        sample(model, animation, last_step=1)
        return list(seen)

    ((whole, batch_indices, _),) = calls(small_models.applied(bare, embeds, guidance=guidance))
    assert batch_indices is None
    for model in both_orders(windows, bare, embeds, guidance=guidance):
        found = calls(model)
        assert {batch_index for _, batch_indices, _ in found for batch_index in batch_indices} == set(range(FRAMES))
        for x, batch_indices, latents in found:
            assert len(batch_indices) == latents < FRAMES
            for chunk in x.split(latents):
                same(chunk, whole[list(batch_indices)])


def test_every_frame_keeps_its_own_weight_in_windows(windows, bare, embeds, animation):
    own = {"batch_factors": (1.0, 0.0, -0.5, 0.8, 0.3), "guidance": "three-way"}
    expected = sample(small_models.applied(bare, embeds, **own), animation)
    for model in both_orders(windows, bare, embeds, **own):
        close(sample(model, animation), expected)


def test_heat_maps_in_windows_are_those_of_the_whole_batch(windows, bare, embeds, animation):
    def seen(model):
        model, watch = watched(model)
        sample(model, animation)
        return watch.moments

    expected = seen(small_models.applied(bare, embeds))
    for model in both_orders(windows, bare, embeds):
        for found, moment in zip(seen(model), expected, strict=True):
            assert found.noise_level == moment.noise_level and found.maps.keys() == moment.maps.keys()
            for of, maps in moment.maps.items():
                close(found.maps[of].value, maps.value)


def in_silent_parts(model):
    """A node that samples the latents a few at a time and does not say which."""

    def parts(executor, base, conds, x_in, timestep, model_options):
        calls = zip(x_in.split([3, 2]), timestep.split([3, 2]), strict=True)
        found = [executor(base, conds, x, t, model_options) for x, t in calls]
        return [torch.cat(each) for each in zip(*found, strict=True)]

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "parts", parts)
    return model


def test_parts_of_the_batch_of_which_nobody_says_which_they_are_do_for_what_all_latents_share(bare, embeds, animation):
    expected = sample(small_models.applied(bare, embeds), animation)
    for model in both_orders(in_silent_parts, bare, embeds):
        close(sample(model, animation), expected)


@pytest.mark.parametrize("own", [{"mask": torch.eye(FRAMES)[:, :, None]}, {"batch_factors": (1.0, 0.5)}], ids=str)
def test_parts_of_which_nobody_says_which_they_are_stop_a_run_whose_latents_differ(bare, embeds, animation, own):
    for model in both_orders(in_silent_parts, bare, embeds, **own):
        with pytest.raises(ValueError, match="holds 3 of 5 latents.* does not say which.*bypass"):
            sample(model, animation)


@pytest.mark.parametrize("dim", [2, 3])
def test_windows_of_the_picture_stop_a_run_with_a_mask(bare, embeds, dim):
    mask = torch.rand(1, 8, 12, generator=torch.Generator().manual_seed(1))
    for model in both_orders(lambda model: in_host_windows(model, dim=dim), bare, embeds, mask):
        with pytest.raises(ValueError, match=r"attn_mask.* \(8, 12\).*leave attn_mask unconnected"):
            sample(model, noise(bare, 1, 8, 12))
