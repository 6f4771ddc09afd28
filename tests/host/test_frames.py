"""Animations sampled in windows of their frames: which latents a call holds, and that each keeps its own."""

import pytest
import small
import torch
from comfy.context_windows import IndexListContextHandler, IndexListContextWindow
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from host_node import host_node
from ipadapter_instruct.models.patching.frames import divide_call, frames_of_call
from sampling import close, noise, same, sample

FRAMES, WINDOW, OVERLAP = 5, 3, 1
MODES = ["simple", "three-way"]


def host_options(frames, dim=0) -> dict:
    return {"context_window": IndexListContextWindow(frames, dim)}


def animatediff_options(frames, full_length=16) -> dict:
    return {"ad_params": {"full_length": full_length, "context_length": 4, "sub_idxs": frames}}


@pytest.mark.parametrize("options", [host_options, animatediff_options])
@pytest.mark.parametrize("frames", [[0, 1, 2], [14, 15, 0], [4, 6, 8]], ids=["start", "loop", "stride"])
def test_a_call_in_a_window_holds_the_windows_frames(options, frames):
    assert frames_of_call(options(frames), 3) == tuple(frames)


@pytest.mark.parametrize("options", [{}, {"ad_params": None}, animatediff_options(None), {"context_window": object()}])
def test_a_call_outside_any_window_holds_the_whole_batch(options):
    assert frames_of_call(options, 3) is None


@pytest.mark.parametrize("options", [host_options, animatediff_options])
def test_a_window_left_behind_by_an_earlier_call_counts_no_more(options):
    assert frames_of_call(options([4, 5, 6]), 8) is None


@pytest.mark.parametrize("dim", [2, 3])
def test_a_window_along_another_dimension_holds_no_frames(dim):
    assert frames_of_call(host_options([4, 5, 6], dim), 3) is None


def test_animatediff_without_a_window_leaves_the_hosts_window_to_count():
    assert frames_of_call({**animatediff_options(None), **host_options([2, 3])}, 2) == (2, 3)


def stated(latents: int, **options) -> dict:
    """What the host says of a call's batch: a noise level for each latent of a chunk."""
    return {"sigmas": torch.ones(latents), **options}


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_a_call_of_the_hosts_own_holds_one_tile(chunks):
    assert divide_call(stated(3), 3 * chunks, chunks, 3) == ((0, 1, 2), 1)
    assert divide_call(stated(3, **host_options([4, 5, 6])), 3 * chunks, chunks, 3) == ((4, 5, 6), 1)


def test_a_part_of_the_batch_that_the_host_batched_itself_counts_as_a_batch():
    assert divide_call(stated(2), 6, 3, 8) == ((0, 1), 1)


def test_one_noise_level_for_all_latents_says_nothing_of_their_number():
    assert divide_call(stated(1), 6, 2, 3) == ((0, 1, 2), 1)
    assert divide_call(stated(1, **animatediff_options([7])), 2, 2, 5) == ((7,), 1)


def test_a_call_with_tiles_holds_them_all_of_the_same_latents():
    assert divide_call(stated(2), 2 * 3 * 4, 3, 2) == ((0, 1), 4)
    assert divide_call(stated(2, **animatediff_options([5, 6])), 2 * 3 * 4, 3, 8) == ((5, 6), 4)


@pytest.mark.parametrize("rows, chunks", [(1, 2), (2, 2), (5, 2), (3, 2), (0, 1)])
def test_a_call_whose_rows_are_nobodys_is_refused(rows, chunks):
    with pytest.raises(ValueError, match=f"2 latent.* {chunks} conditions was expected; it has {rows} in all.*bypass"):
        divide_call(stated(2), rows, chunks, 2)


class Handler(IndexListContextHandler):
    """ComfyUI's own, but for a line of 0.3.75 that fails for more than one latent and that later versions mended."""

    def set_step(self, timestep, model_options):
        super().set_step(timestep[:1], model_options)


def in_host_windows(model, schedule: str = "standard_static", fuse: str = "flat"):
    model = host_node(ContextWindowsManualNode, model, WINDOW, OVERLAP, schedule, 1, True, fuse, 0)[0]
    model.model_options["context_handler"].__class__ = Handler
    return model


def in_animatediff_windows(model):
    """AnimateDiff-Evolved's sliding context: a wrapper that hands on parts of the batch and of the conditions' lists.

    Source: Kosinkadink/ComfyUI-AnimateDiff-Evolved@466f5636, `sliding_calc_cond_batch`.
    """

    def sliding(executor, base, conds, x_in, timestep, model_options):
        options = model_options["transformer_options"]
        options["ad_params"] = {"full_length": len(x_in), "context_length": WINDOW, "sub_idxs": None}
        totals, counts = [torch.zeros_like(x_in) for _ in conds], torch.zeros(len(x_in), 1, 1, 1)
        for frames in ([0, 1, 2], [2, 3, 4], [4, 0, 1]):
            options["ad_params"]["sub_idxs"] = frames
            lists = [None if own is None else [cond.copy() for cond in own] for own in conds]
            found = executor(base, lists, x_in[frames], timestep[frames], model_options)
            for total, part in zip(totals, found, strict=True):
                total[frames] += part
            counts[frames] += 1
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


@pytest.fixture(params=WINDOWS)
def windows(request):
    return WINDOWS[request.param]


@pytest.fixture(scope="module")
def embeds():
    return small.golden_embeds("sd15")


@pytest.fixture(scope="module")
def bare():
    return small.small_model("sd15")


@pytest.fixture(scope="module")
def animation(bare):
    return noise(bare, FRAMES, 8, 12)


def both_orders(windows, bare, embeds, mask=None, **settings):
    """The windows' node before Apply, and after it."""
    return (
        small.applied(windows(bare), embeds, mask, **settings),
        windows(small.applied(bare, embeds, mask, **settings)),
    )


@pytest.mark.parametrize("guidance", MODES)
def test_windows_do_not_change_what_every_frame_shares(windows, bare, embeds, animation, guidance):
    expected = sample(small.applied(bare, embeds, guidance=guidance), animation)
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
    expected = sample(small.applied(bare, embeds, masks, guidance=guidance), animation)
    for model in both_orders(windows, bare, embeds, masks, guidance=guidance):
        close(sample(model, animation), expected)


@pytest.mark.parametrize("guidance", MODES)
def test_the_frames_of_a_call_are_the_latents_it_holds(windows, bare, embeds, animation, guidance):
    seen = []

    def look(executor, x, t, *args):
        options = args[-1]
        latents = len(x) // len(options["uuids"])
        seen.append((x, frames_of_call(options, latents), latents))
        return executor(x, t, *args)

    def calls(model):
        seen.clear()
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        sample(model, animation, last_step=1)
        return list(seen)

    ((whole, frames, _),) = calls(small.applied(bare, embeds, guidance=guidance))
    assert frames is None
    for model in both_orders(windows, bare, embeds, guidance=guidance):
        found = calls(model)
        assert {frame for _, frames, _ in found for frame in frames} == set(range(FRAMES))
        for x, frames, latents in found:
            assert len(frames) == latents < FRAMES
            for chunk in x.split(latents):
                same(chunk, whole[list(frames)])
