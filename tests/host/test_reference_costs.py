"""The costs of several references, shown by counting: nothing when there is one, and no waiting when there are more."""

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import PER_INDEX, combine_references
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.patching.run import RUN
from support import small_models
from support.sampling.counting import ATTENTION, attention_counts, calls_of, linear_layers
from support.sampling.short_runs import noise, sample

LATENTS = 2


def each(one: InstructEmbeds, weights=()) -> InstructEmbeds:
    tokens = one.image_tokens.map(lambda t: torch.cat([t, t.roll(7, dims=-1)]))
    return InstructEmbeds.of(one.adapter, "", combine_references(tokens, PER_INDEX, weights))


def operations(model, steps: int = 2):
    return attention_counts(model, noise(model, LATENTS, 8, 12), last_step=steps)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5)])
def test_weights_that_are_alike_for_all_latents_cost_nothing(bare, embeds, weights):
    expected = operations(small_models.applied(bare, embeds, guidance="three-way"))
    assert operations(small_models.applied(bare, embeds, guidance="three-way", batch_factors=weights)) == expected
    assert expected["mul"] >= expected[ATTENTION] > 0


def test_a_picture_weighted_by_itself_costs_nothing(bare, embeds):
    tokens = combine_references(embeds.image_tokens, weights=(0.5,))
    weighted = InstructEmbeds.of(embeds.adapter, "", tokens)
    expected = operations(small_models.applied(bare, embeds, guidance="three-way"))
    assert operations(small_models.applied(bare, weighted, guidance="three-way")) == expected


def test_weights_of_tokens_cost_nothing_while_sampling(bare, embeds):
    weighted = InstructEmbeds(embeds.adapter, "", embeds.image_tokens, torch.linspace(0, 1, 16)[None])
    expected = operations(small_models.applied(bare, embeds, guidance="three-way"))
    assert operations(small_models.applied(bare, weighted, guidance="three-way")) == expected


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_references_and_weights_of_latents_are_on_the_device_after_the_first_step(bare, embeds, guidance):
    model = small_models.applied(bare, each(embeds, (1.0, 0.5)), guidance=guidance)
    first, both = operations(model, 1), operations(model, 2)
    second = both - first
    made = {"item", "_local_scalar_dense", "nonzero", "to", "_to_copy", "lift_fresh", "detach_", "index"}
    assert second[ATTENTION] == first[ATTENTION]
    assert not second.keys() & made
    assert first.keys() & made  # the counter does see the copies of the first step
    assert sum(first[name] for name in made) <= 3  # of one tensor, for all sites


def test_keys_and_values_of_all_references_are_made_at_once_and_once_a_run(bare, embeds):
    layers = linear_layers(embeds.adapter.projections)
    with calls_of(layers) as rows:
        sample(small_models.applied(bare, each(embeds), guidance="three-way"), noise(bare, LATENTS, 8, 12))
    assert rows == [4 * LATENTS] * len(layers)


@pytest.mark.parametrize("number", [1, LATENTS])
@pytest.mark.parametrize("guidance, branches", [("simple", 2), ("three-way", 4)])
def test_what_a_run_keeps_grows_with_the_references_alone(bare, embeds, number, guidance, branches):
    seen = []

    def look(executor, *args, **kwargs):
        (running,) = args[2]["transformer_options"][RUN].adapters
        seen.append([tuple(x.shape) for pair in running.of_branches.sites.values() for x in pair])
        return executor(*args, **kwargs)

    model = small_models.applied(bare, embeds if number == 1 else each(embeds), guidance=guidance)
    model.add_wrapper_with_key("predict_noise", "look", look)
    sample(model, noise(bare, LATENTS, 8, 12), last_step=1)
    widths = embeds.adapter.projections.widths
    assert seen == [[(branches * number, 16, width) for width in widths for _ in ("keys", "values")]]
