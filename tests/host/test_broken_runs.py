"""A run that ends in the middle of a step, out of memory or interrupted: nothing stays, and the next is as ever."""

from __future__ import annotations

import contextlib
import gc
import weakref

import comfy.model_management as mm
import pytest
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.patching import wrappers
from ipadapter_instruct.models.patching.run import OBSERVER, RUN, prepare_run
from support import small_models
from support.sampling.short_runs import noise, same, sample

ENDS = {"out of memory": mm.OOM_EXCEPTION, "interrupted": mm.InterruptProcessingException}
FAMILIES = ("sd15", "sd3")
AFTER = 7  # layers of attention: in a step, and for some families in the second one


@contextlib.contextmanager
def breaking(model, error: type[BaseException]):
    """Let the model's attention raise in its AFTER-th call."""
    calls = []

    def count(*_) -> None:
        calls.append(None)
        if len(calls) == AFTER:
            raise error("in the middle of a step")

    layers = [m for m in model.model.diffusion_model.modules() if type(m).__name__ in ("CrossAttention", "JointBlock")]
    handles = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    assert len(calls) == AFTER


@pytest.fixture
def runs(monkeypatch):
    """Weak references to every run that begins, and to its keys and values."""
    kept: list[weakref.ref] = []

    def seen(*arguments):
        run = prepare_run(*arguments)
        kept.append(weakref.ref(run))
        for adapter in run.adapters:
            kept.extend(weakref.ref(tensor) for pair in adapter.of_branches.sites.values() for tensor in pair)
        return run

    monkeypatch.setattr(wrappers, "prepare_run", seen)
    return kept


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", ENDS)
def test_nothing_of_a_broken_run_stays_and_the_next_is_bit_equal_to_one_before(family, guidance, end, runs):
    bare = small_models.small_model(family)
    model = small_models.applied(bare, small_models.golden_embeds(family), guidance=guidance)
    before, before_bare = sample(model), sample(bare)
    runs.clear()
    with breaking(model, ENDS[end]), pytest.raises(ENDS[end], match="in the middle"):
        sample(model)
    gc.collect()
    assert len(runs) > 3, "the run should have begun"
    assert [kept for kept in runs if kept() is not None] == []
    assert RUN not in model.model_options["transformer_options"]
    assert wrappers.STEP not in model.model_options["transformer_options"]
    same(sample(model), before)
    same(sample(bare), before_bare)


@pytest.mark.parametrize("end", ENDS)
def test_a_watch_survives_a_broken_run(end):
    bare, embeds = small_models.small_model(), small_models.golden_embeds()
    model, watch = watched(small_models.applied(bare, embeds))
    start = noise(model)
    sample(model, start)
    before = watch.mean()
    with breaking(model, ENDS[end]), pytest.raises(ENDS[end]):
        sample(model, start)
    sample(model, start)
    same(watch.mean(), before)
    assert OBSERVER in model.model_options["transformer_options"]
