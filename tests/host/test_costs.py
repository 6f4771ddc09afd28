"""The costs of a run and of a step, shown by counting."""

import pytest
from ipadapter_instruct.models.patching.run import RUN
from support import small_models
from support.sampling.counting import ATTENTION, Operations, attention_counts, calls_of, linear_layers, passes
from support.sampling.short_runs import STEPS, sample


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_keys_and_values_are_made_once_a_run(bare, embeds, guidance):
    layers = linear_layers(embeds.adapter.projections)
    model = small_models.applied(bare, embeds, guidance=guidance)
    with calls_of(layers) as calls:
        sample(model)
        assert len(calls) == len(layers) >= 2 * len(embeds.adapter.projections.widths)
        sample(model)
        assert len(calls) == 2 * len(layers)


def test_the_resampler_does_not_run_while_sampling(bare, embeds):
    model = small_models.applied(bare, embeds)
    with calls_of([embeds.adapter.image_projection.model]) as calls:
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
def test_passes_a_step(bare, embeds, case):
    settings, cfg, expected = PASSES[case]
    model = bare if settings is None else small_models.applied(bare, embeds, **settings)
    assert passes(model, cfg) == [expected] * STEPS  # one batch each


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_the_attention_waits_for_nothing(bare, embeds, guidance):
    counts = attention_counts(small_models.applied(bare, embeds, guidance=guidance))
    assert counts[ATTENTION] == STEPS * len(embeds.adapter.projections.widths)
    assert counts["mul"] >= counts[ATTENTION]  # the counter does see the work
    waits = {"item", "_local_scalar_dense", "nonzero", "is_nonzero", "to", "_to_copy"}
    assert not counts.keys() & waits


def test_the_attention_of_a_unet_projects_nothing_and_an_mmdits_four_times(family, bare, embeds):
    counts = attention_counts(small_models.applied(bare, embeds, guidance="three-way"))
    projections = sum(counts[name] for name in ("linear", "addmm", "mm"))
    assert projections == (4 if family == "sd3" else 0) * counts[ATTENTION]


def test_only_a_window_reads_the_noise_level_back_and_once_a_step(bare, embeds):
    def reads(model, steps: int) -> int:
        with Operations() as operations:
            sample(model, last_step=steps)
        return operations.counts["item"]

    def reads_a_step(model) -> int:
        return (reads(model, 3) - reads(model, 1)) // 2

    without = reads_a_step(bare)
    assert reads_a_step(small_models.applied(bare, embeds)) == without
    assert reads_a_step(small_models.applied(bare, embeds, start_percent=0.2)) == without + 1


def test_what_a_run_keeps_is_keys_and_values_alone(bare, embeds):
    model = small_models.applied(bare, embeds, guidance="three-way")
    seen = []

    def look(executor, *args, **kwargs):
        run = executor.class_obj.model_options["transformer_options"].get(RUN)
        assert run is None  # it lives in the sampler's own options
        model_options = args[2]
        pairs = model_options["transformer_options"][RUN].adapters[0].of_branches.sites.values()
        seen.append(sorted(tuple(tensor.shape) for pair in pairs for tensor in pair))
        return executor(*args, **kwargs)

    model.add_wrapper_with_key("predict_noise", "look", look)
    sample(model)

    widths = embeds.adapter.projections.widths
    assert seen == [sorted((4, 16, width) for width in widths for _ in ("keys", "values"))] * STEPS


def test_only_the_streams_of_sd3_are_loaded_beside_the_model(family, bare, embeds):
    loaded = small_models.applied(bare, embeds).model_patches_models()
    assert loaded == ([embeds.adapter.streams] if family == "sd3" else [])
