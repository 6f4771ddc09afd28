"""Several devices: ComfyUI 0.23 and later spread a step's conditions over them, with a thread for each.

The second device is one that the CPU plays, where an operation on tensors of both raises. Tolerances are relative.
"""

import copy
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from ipadapter_instruct.models import bounded_cache
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.denoisers import rows
from ipadapter_instruct.models.denoisers.rows import BatchRows, SiteMasks
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerFactor, LayerWeights
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from ipadapter_instruct.models.patching import run
from ipadapter_instruct.models.patching.chain import CHAIN
from ipadapter_instruct.models.patching.run import StepAdapter
from support import small_models
from support.devices.played_device import PLAYED
from support.devices.two_devices import HOST_SPREADS, copies_in_attention, play, small_model, spread
from support.sampling.host_samplers import one_step_over_areas
from support.sampling.short_runs import close, noise, same, sample

CLOSE = 1e-5
MODES = {"simple": {"guidance": "simple"}, "three-way": {"guidance": "three-way", "image_scale": 0.5}}
FACTORS = Schedule(points=((0.0, 1.0), (0.5, 0.4)), along="steps")


@pytest.fixture(autouse=True)
def two_devices(monkeypatch):
    play(monkeypatch)


@pytest.fixture(scope="module")
def bare(family):
    return small_model(family)


@pytest.fixture
def batch(bare):
    return noise(bare, 2, 8, 8)


def soft_masks(number: int = 2) -> torch.Tensor:
    return torch.rand(number, 11, 17, generator=torch.Generator().manual_seed(1))


def everything_at_once(bare, embeds):
    """A chain with masks, weights and tokens for each latent, factors of the steps, a window, and weight on keys."""
    rolled = embeds.image_tokens.map(lambda t: torch.cat([t, t.roll(7, dims=-1)]))
    each = InstructEmbeds(embeds.adapter, "", rolled)
    settings = {"weight": 0.9, "batch_factors": (1.0, -0.25), "schedule": FACTORS, "three_way_until": 0.6}
    model = small_models.applied(bare, each, soft_masks(), **MODES["three-way"], **settings)
    if embeds.adapter.streams is not None:
        return small_models.applied(model, embeds, weight=0.4, start_percent=0.3, **MODES["simple"])
    layers = LayerWeights("style transfer precise", scaling=KV)
    return small_models.applied(model, embeds, weight=0.4, start_percent=0.3, layers=layers, **MODES["simple"])


# The picture is the same


def picture(model, latents) -> torch.Tensor:
    return sample(model, latents, last_step=2).cpu()


def test_the_bare_model_is_the_same_on_both(bare, batch):
    close(picture(spread(bare), batch), picture(bare, batch), CLOSE)


@pytest.mark.parametrize("guidance", MODES)
def test_a_run_on_two_devices_is_the_run_on_one(bare, embeds, batch, guidance):
    model = small_models.applied(bare, embeds, **MODES[guidance])
    close(picture(spread(model), batch), picture(model, batch), CLOSE)


def test_a_chain_of_all_settings_on_two_devices_is_the_one_on_one(bare, embeds, batch):
    model = everything_at_once(bare, embeds)
    close(picture(spread(model), batch), picture(model, batch), CLOSE)


def test_an_adapter_that_is_applied_to_a_spread_model_acts_on_both_devices(bare, embeds, batch):
    if not HOST_SPREADS:
        pytest.skip("what spreads the model here hands the step to no wrapper behind it")
    settings = MODES["three-way"]
    model = picture(small_models.applied(spread(bare), embeds, **settings), batch)
    close(model, picture(small_models.applied(bare, embeds, **settings), batch), CLOSE)


def test_a_model_on_another_device_than_the_adapter_is_the_one_on_its_own(family, bare, embeds, batch):
    """A model as ComfyUI's Select Model Device gives it. SD3's stream layers stay on the adapter's device."""
    if not HOST_SPREADS:
        pytest.skip("this ComfyUI has one device for all models")
    model = small_models.applied(bare, embeds, **MODES["three-way"])
    with copies_in_attention(family) as shapes:
        found = picture(model.deepclone_multigpu(PLAYED), batch)
    close(found, picture(model, batch), CLOSE)
    assert shapes == ([(width, width) for width in embeds.adapter.projections.widths] * 4 if family == "sd3" else [])


def test_a_run_on_two_devices_leaves_the_next_on_one_as_it_was(bare, embeds, batch):
    model = small_models.applied(bare, embeds, soft_masks(), **MODES["three-way"])
    before = picture(model, batch)
    picture(spread(model), batch)
    same(picture(model, batch), before)


# Copies


def copied(family: str, model, latents, **steps) -> list[tuple[int, ...]]:
    with copies_in_attention(family) as shapes:
        sample(model, latents, **steps)
    return shapes


def test_each_device_gets_one_copy_a_run_whatever_the_number_of_steps(family, bare, embeds, batch):
    """Keys and values of each site, and of SD3 its four matrices."""
    model = spread(small_models.applied(bare, embeds, **MODES["three-way"]))
    widths = embeds.adapter.projections.widths
    pairs = [(4, 16, width) for width in widths] * 2
    matrices = [(width, width) for width in widths] * 4 if family == "sd3" else []
    for steps in (1, 3):
        assert sorted(copied(family, model, batch, last_step=steps)) == sorted(pairs + matrices)


def test_masks_and_weights_are_copied_once_for_each_kind_of_rows_and_not_for_each_step(family, bare, embeds, batch):
    settings = {**MODES["three-way"], "batch_factors": (1.0, -0.25)}
    model = spread(small_models.applied(bare, embeds, soft_masks(), **settings))
    assert len(copied(family, model, batch, last_step=3)) == len(copied(family, model, batch, last_step=1))


def test_on_one_device_nothing_is_copied(family, bare, embeds, batch):
    assert copied(family, everything_at_once(bare, embeds), batch) == []


def test_what_was_copied_goes_with_the_run(bare, embeds, batch, monkeypatch):
    made, take = [], bounded_cache.RunCache.get

    def noting(self, *args):
        found = take(self, *args)
        made.append(weakref.ref(self))
        return found

    monkeypatch.setattr(bounded_cache.RunCache, "get", noting)
    sample(spread(small_models.applied(bare, embeds)), batch)
    assert made and not any(kept() for kept in made)


# Threads


class Interrupted(int):
    """A number at which another thread may take its turn whenever it is looked up."""

    def __hash__(self) -> int:
        return int(self)


def in_two_threads(work, *arguments) -> list[list]:
    """The results of `work` for each of two arguments, over and over in a thread of its own."""
    ready, interval = threading.Barrier(2), sys.getswitchinterval()

    def many(argument) -> list:
        ready.wait()
        return [work(argument) for _ in range(2000)]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(many, arguments))
    finally:
        sys.setswitchinterval(interval)


def one_row(batch_index: int) -> BatchRows:
    return BatchRows((Branch.FULL,), (None,), (2, 2), (2, 2), (batch_index,))


def test_masks_are_found_though_another_thread_has_them_forgotten(monkeypatch):
    monkeypatch.setattr(rows, "MOST_CACHED", 1)
    site_masks, like = SiteMasks(soft_masks()), torch.zeros(1)

    def of(batch_index: int) -> torch.Tensor:
        return site_masks.at((1, 1), one_row(batch_index), like)

    own = [of(batch_index) for batch_index in (0, 1)]
    for expected, found in zip(own, in_two_threads(of, Interrupted(0), Interrupted(1)), strict=True):
        assert all(torch.equal(mask, expected) for mask in found)


def test_factors_are_found_though_another_thread_has_them_forgotten(monkeypatch):
    monkeypatch.setattr(run, "MOST_CACHED", 1)
    site, like = ("block", 0), torch.zeros(1)
    applied = SimpleNamespace(batch_weights=(1.0, 0.5), layers={site: LayerFactor()}, weight=3.0)
    adapter = StepAdapter(applied, None, None, None)

    def of(batch_index: int) -> torch.Tensor:
        return adapter.weight(site, one_row(batch_index), like)

    own = [of(batch_index) for batch_index in (0, 1)]
    for expected, found in zip(own, in_two_threads(of, Interrupted(0), Interrupted(1)), strict=True):
        assert all(torch.equal(factors, expected) for factors in found)


# What the host does to a model and its options


def test_clones_for_other_devices_share_the_chain(bare, embeds):
    if not HOST_SPREADS:
        pytest.skip("this ComfyUI does not spread models over devices")
    model = small_models.applied(bare, embeds)
    clone = model.deepclone_multigpu(PLAYED)
    assert clone.model is not model.model
    options = [one.model_options["transformer_options"] for one in (model, clone)]
    assert options[0][CHAIN] is options[1][CHAIN]
    assert clone.wrappers == model.wrappers
    assert clone.model_patches_models() == model.model_patches_models()


def test_a_deep_copy_of_a_calls_options_serves_as_they_do(bare, embeds, batch):
    """Packs that call the model again from inside do so."""

    def copying(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        options = copy.deepcopy(transformer_options)
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    model = everything_at_once(bare, embeds)
    copied = model.clone()
    copied.add_wrapper_with_key("apply_model", "copying", copying)
    same(sample(copied, batch), sample(model, batch))


# Heat maps


@pytest.mark.parametrize("guidance", MODES)
def test_the_attention_on_both_devices_is_seen(family, bare, embeds, guidance):
    if not HOST_SPREADS:
        pytest.skip("this ComfyUI does not spread models over devices")
    seen, applied = [], small_models.applied(bare, embeds, **MODES[guidance])
    for model in (applied, spread(applied)):
        looked_at, watch = watched(model)
        one_step_over_areas(looked_at, family, torch.zeros_like(noise(bare)), None, (4, 6, 2, 3))
        seen.append((watch.mean(), *watch.over_blocks().values(), watch.token_maps()[0]))
    for found, expected in zip(*reversed(seen), strict=True):
        close(found, expected, CLOSE)
