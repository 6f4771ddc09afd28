"""What several references cost, shown by counting: nothing when there is one, and no waiting when there are more."""

import collections

import pytest
import torch
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.patching.run import RUN
from ipadapter_instruct.models.reference.combining import PER_INDEX, Combining, combine_references
from support import small_models
from support.sampling.counted_operations import patch_class
from support.sampling.short_runs import noise, sample
from torch.utils._python_dispatch import TorchDispatchMode

LATENTS = 2
CALL = "attention calls"


@pytest.fixture(params=small_models.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def one(family):
    return small_models.golden_embeds(family)


@pytest.fixture
def bare(family):
    return small_models.small_model(family)


def each(one: InstructEmbeds, weights=()) -> InstructEmbeds:
    tokens = one.image_tokens.map(lambda t: torch.cat([t, t.roll(7, dims=-1)]))
    return InstructEmbeds.of(one.adapter, "", combine_references(tokens, Combining(PER_INDEX, weights)))


class Operations(TorchDispatchMode):
    """How often torch runs each operation. A `to` that has nothing to do is none."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name != "to" or result.data_ptr() != args[0].data_ptr():
            self.counts[name] += 1
        return result


@pytest.fixture
def operations(family, monkeypatch):
    """A function that counts what runs inside the pack's attention during some steps of a model."""
    attention = patch_class(family)
    original, counting = attention.__call__, Operations()

    def call(self, *args, **kwargs):
        with counting:
            counting.counts[CALL] += 1
            return original(self, *args, **kwargs)

    def count(model, steps: int = 2) -> collections.Counter:
        counting.counts.clear()
        sample(model, noise(model, LATENTS, 8, 12), last_step=steps)
        return counting.counts.copy()

    monkeypatch.setattr(attention, "__call__", call)
    return count


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5)])
def test_weights_that_are_alike_for_all_latents_cost_nothing(bare, one, operations, weights):
    expected = operations(small_models.applied(bare, one, guidance="three-way"))
    assert operations(small_models.applied(bare, one, guidance="three-way", batch_factors=weights)) == expected
    assert expected["mul"] >= expected[CALL] > 0


def test_a_picture_weighted_by_itself_costs_nothing(bare, one, operations):
    tokens = combine_references(one.image_tokens, Combining(weights=(0.5,)))
    weighted = InstructEmbeds.of(one.adapter, "", tokens)
    expected = operations(small_models.applied(bare, one, guidance="three-way"))
    assert operations(small_models.applied(bare, weighted, guidance="three-way")) == expected


def test_weights_of_tokens_cost_nothing_while_sampling(bare, one, operations):
    weighted = InstructEmbeds(one.adapter, "", one.image_tokens, torch.linspace(0, 1, 16)[None])
    expected = operations(small_models.applied(bare, one, guidance="three-way"))
    assert operations(small_models.applied(bare, weighted, guidance="three-way")) == expected


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_references_and_weights_of_latents_are_on_the_device_after_the_first_step(bare, one, operations, guidance):
    model = small_models.applied(bare, each(one, (1.0, 0.5)), guidance=guidance)
    first, both = operations(model, 1), operations(model, 2)
    second = both - first
    made = {"item", "_local_scalar_dense", "nonzero", "to", "_to_copy", "lift_fresh", "detach_", "index"}
    assert second[CALL] == first[CALL]
    assert not second.keys() & made
    assert first.keys() & made  # the counter does see the copies of the first step
    assert sum(first[name] for name in made) <= 3  # of one tensor, for all sites


def test_keys_and_values_of_all_references_are_made_at_once_and_once_a_run(bare, one):
    layers = [m for m in one.adapter.projections.modules() if isinstance(m, torch.nn.Linear)]
    rows = []
    for layer in layers:
        layer.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    sample(small_models.applied(bare, each(one), guidance="three-way"), noise(bare, LATENTS, 8, 12))
    assert rows == [4 * LATENTS] * len(layers)


@pytest.mark.parametrize("number", [1, LATENTS])
@pytest.mark.parametrize("guidance, branches", [("simple", 2), ("three-way", 4)])
def test_what_a_run_keeps_grows_with_the_references_alone(bare, one, number, guidance, branches):
    seen = []

    def look(executor, *args, **kwargs):
        (running,) = args[2]["transformer_options"][RUN].adapters
        seen.append([tuple(x.shape) for pair in running.keys_values.sites.values() for x in pair])
        return executor(*args, **kwargs)

    model = small_models.applied(bare, one if number == 1 else each(one), guidance=guidance)
    model.add_wrapper_with_key("predict_noise", "look", look)
    sample(model, noise(bare, LATENTS, 8, 12), last_step=1)
    widths = one.adapter.projections.widths
    assert seen == [[(branches * number, 16, width) for width in widths for _ in ("keys", "values")]]
