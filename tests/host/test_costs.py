"""What a run and a step cost, shown by counting."""

import collections
import contextlib

import pytest
import small
import torch
from ipadapter_instruct.models.patching import unet
from ipadapter_instruct.models.patching.run import RUN
from sampling import STEPS, sample
from torch.utils._python_dispatch import TorchDispatchMode

SITES = 16


@pytest.fixture
def embeds():
    return small.golden_embeds()


@contextlib.contextmanager
def counted(modules):
    """Counts forward calls of modules: yields a list that gets the first input's shape of each."""
    calls = []
    hooks = [m.register_forward_hook(lambda module, args, out: calls.append(args[0].shape)) for m in modules]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_keys_and_values_are_made_once_a_run(embeds, guidance):
    projections = embeds.adapter.projections.model
    layers = [m for m in projections.modules() if isinstance(m, torch.nn.Linear)]
    model = small.applied(small.small_model(), embeds, guidance=guidance)
    with counted(layers) as calls:
        sample(model)
        assert len(calls) == len(layers) == 2 * SITES
        sample(model)
        assert len(calls) == 2 * len(layers)


def test_the_resampler_does_not_run_while_sampling(embeds):
    model = small.applied(small.small_model(), embeds)
    with counted([embeds.adapter.resampler.model]) as calls:
        sample(model)
    assert calls == []


PASSES = {
    "bare": (None, 4.0, 2),
    "simple": ({"guidance": "simple"}, 4.0, 2),
    "simple at cfg 1": ({"guidance": "simple"}, 1.0, 1),
    "three-way": ({"guidance": "three-way", "image_scale": 1.0}, 4.0, 3),
    "three-way with an image scale": ({"guidance": "three-way", "image_scale": 0.5}, 4.0, 4),
    "three-way at cfg 1": ({"guidance": "three-way", "image_scale": 1.0}, 1.0, 2),
    "three-way at weight 0": ({"guidance": "three-way", "weight": 0.0}, 4.0, 2),
}


@pytest.mark.parametrize("case", PASSES)
def test_passes_a_step(embeds, case):
    settings, cfg, expected = PASSES[case]
    model = small.small_model()
    if settings is not None:
        model = small.applied(model, embeds, **settings)
    with counted([model.model.diffusion_model]) as calls:
        sample(model, cfg=cfg)
    assert [shape[0] for shape in calls] == [expected] * STEPS  # one batch each


class Operations(TorchDispatchMode):
    """Counts every operation torch runs. A `to` that has nothing to do is none."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name != "to" or result.data_ptr() != args[0].data_ptr():
            self.counts[name] += 1
        return result


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_the_attention_projects_nothing_and_waits_for_nothing(embeds, guidance, monkeypatch):
    operations = Operations()
    original = unet.CrossAttentionPatch.__call__

    def counting(self, *args):
        with operations:
            return original(self, *args)

    monkeypatch.setattr(unet.CrossAttentionPatch, "__call__", counting)
    sample(small.applied(small.small_model(), embeds, guidance=guidance))

    assert operations.counts["mul"] >= SITES * STEPS  # the counter does see the patch's work
    waits = {"item", "_local_scalar_dense", "nonzero", "is_nonzero", "to", "_to_copy"}
    projections = {"linear", "addmm", "mm"}
    assert not operations.counts.keys() & (waits | projections)


def test_only_a_window_reads_the_noise_level_back_and_once_a_step(embeds):
    def reads(model, steps: int) -> int:
        with Operations() as operations:
            sample(model, last_step=steps)
        return operations.counts["item"]

    def reads_a_step(model) -> int:
        return (reads(model, 3) - reads(model, 1)) // 2

    bare = reads_a_step(small.small_model())
    assert reads_a_step(small.applied(small.small_model(), embeds)) == bare
    assert reads_a_step(small.applied(small.small_model(), embeds, start_percent=0.2)) == bare + 1


def test_what_stays_resident_is_keys_and_values_alone(embeds):
    model = small.applied(small.small_model(), embeds, guidance="three-way")
    seen = []

    def look(executor, *args, **kwargs):
        run = executor.class_obj.model_options["transformer_options"][RUN]
        seen.extend(tensor.shape for pair in run.adapters[0].keys_values.sites.values() for tensor in pair)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key("predict_noise", "look", look)
    sample(model)

    widths = embeds.adapter.projections.model.widths
    expected = [(4, 16, width) for width in widths for _ in range(2)]
    assert sorted(map(tuple, seen[: 2 * SITES])) == sorted(expected)
