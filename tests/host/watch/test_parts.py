"""Watching batches, references, areas, windows, steps and chains of adapters: each keeps its place and its moment.

Bit for bit unless a tolerance is given.
"""

import pytest
import torch
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from support import small_models
from support.other_nodes.with_other_node import MODES, in_parts
from support.sampling.host_samplers import CFG, SEED, one_step_over_areas
from support.sampling.short_runs import STEPS, close, noise, same
from support.sampling.watching import first_block, keys_of_sites, law_abiding, seen

import nodes as host_nodes

# Batches, areas and parts


@pytest.mark.parametrize("guidance", MODES)
def test_each_latent_of_a_batch_has_its_own_maps_as_in_a_run_of_its_own(bare, embeds, batch, guidance):
    model = small_models.applied(bare, embeds, guidance=guidance)
    found, apart = seen(model, batch), [seen(model, latent[None]) for latent in batch]
    close(found.mean()[0], torch.cat([run.mean()[0] for run in apart]))
    close(found.token_maps()[0], torch.cat([run.token_maps()[0] for run in apart]))
    assert not torch.allclose(found.mean()[0, 0], found.mean()[0, 1], atol=1e-4)


def test_references_of_each_latent_are_seen_by_their_own(bare, embeds, other, batch):
    each = InstructEmbeds(embeds.adapter, "", embeds.image_tokens.map(lambda t: torch.cat([t, t.roll(7, dims=-1)])))
    found = seen(small_models.applied(bare, each, guidance="simple"), batch)
    for n, own in enumerate((embeds, other)):
        apart = seen(small_models.applied(bare, own, guidance="simple"), batch[n : n + 1])
        close(found.mean()[0, n], apart.mean()[0, 0])
        close(found.token_maps()[0][n], apart.token_maps()[0][0])


@pytest.mark.parametrize("windows", ["around the adapter", "inside"])
def test_windows_of_a_batch_are_one_moment_and_every_latent_keeps_its_place(bare, embeds, windows):
    latents, parts = noise(bare, 3, 8, 12), ([2, 0], [1])
    model = small_models.applied(bare, embeds, guidance="simple")
    in_windows = in_parts(model, *parts)
    if windows == "around the adapter":
        in_windows = small_models.applied(in_parts(bare, *parts), embeds, guidance="simple")
    found, expected = seen(in_windows, latents), seen(model, latents)
    assert len(found.moments) == len(expected.moments) == STEPS
    close(found.mean(), expected.mean())
    close(found.token_maps()[0], expected.token_maps()[0])


@pytest.mark.parametrize("guidance", MODES)
def test_an_areas_maps_stand_at_its_place(bare, embeds, family, guidance):
    model, watch = watched(small_models.applied(bare, embeds, guidance=guidance))
    one_step_over_areas(model, family, torch.zeros_like(noise(bare, 2)), (4, 6, 2, 3))
    inside = torch.zeros(8, 12, dtype=torch.bool)
    inside[2:6, 3:9] = True
    shares, tokens = watch.mean()[0], watch.token_maps()[0]
    assert (shares[:, inside] > 0).all() and (shares[:, ~inside] == 0).all()
    close(tokens.sum(dim=1), inside.float().expand(2, -1, -1))


def test_where_areas_overlap_their_mean_is_seen(bare, embeds, family):
    model, watch = watched(small_models.applied(bare, embeds, guidance="simple"))
    latents, area, found = torch.zeros_like(noise(bare)), (4, 6, 2, 3), []
    for areas in ((None, area), (None,)):
        one_step_over_areas(model, family, latents, *areas)
        found.append(first_block(watch)[0, 0])
    part, whole = found
    inside = torch.zeros(8, 12, dtype=torch.bool)
    inside[2:6, 3:9] = True
    close(part[~inside], whole[~inside])
    assert not torch.allclose(part[inside], whole[inside], atol=1e-4)


# Steps and adapters


@pytest.mark.parametrize("guidance", MODES)
def test_a_chain_of_two_adapters_gives_two_sets_of_maps(bare, embeds, other, batch, first_seen, guidance):
    both = small_models.applied(small_models.applied(bare, embeds, guidance=guidance), other, guidance=guidance)
    watch = seen(both, batch)
    law_abiding(watch, adapters=2, latents=2)
    assert watch.instructions == ("use the composition", "use the style")
    for found, given in zip(first_seen(both, batch, 2), (embeds, other), strict=True):
        same(found, *first_seen(small_models.applied(bare, given, guidance=guidance), batch))


def test_an_adapter_of_weight_0_is_not_there(bare, embeds, other, batch):
    watch = seen(small_models.applied(small_models.applied(bare, embeds, weight=0.0), other), batch)
    assert watch.instructions == ("use the style",)
    law_abiding(watch, adapters=1, latents=2)


def test_every_call_of_the_model_is_a_moment_with_its_noise_level(bare, embeds, batch):
    model, watch = watched(small_models.applied(bare, embeds))
    found = {}
    for sampler in ("euler", "heun"):
        positive, negative = (
            small_models.golden_conditioning(bare.model.family, name) for name in ("positive", "negative")
        )
        latent = {"samples": torch.zeros_like(batch)}
        host_nodes.KSampler().sample(model, SEED, STEPS, CFG, sampler, "normal", positive, negative, latent, 1.0)
        found[sampler] = [moment.noise_level for moment in watch.moments]
    assert len(found["euler"]) == STEPS
    assert found["euler"] == sorted(found["euler"], reverse=True)
    # Heun asks again at the level where a step ends, and not in the last one, which ends at 0.
    assert found["heun"] == [level for level in found["euler"] for _ in range(2)][1:]


def test_steps_and_blocks_have_the_same_mean(bare, embeds, batch):
    watch = seen(small_models.applied(bare, embeds), batch)
    steps = watch.over_steps(8)
    assert [position for position, _ in steps] == pytest.approx([0, 1 / 3, 2 / 3])
    close(torch.stack([share for _, share in steps]).mean(dim=0), watch.mean())
    close(torch.stack([*watch.over_blocks().values()]).mean(dim=0), watch.mean())
    assert len(watch.over_steps(2)) == 2


def test_blocks_come_in_the_models_order(bare, embeds, family, batch):
    layers, blocks = zip(
        *(name.split(", ") for name in seen(small_models.applied(bare, embeds), batch).over_blocks()), strict=True
    )
    assert layers == tuple(f"layer {number}" for number in range(len(layers)))
    names = [block.rsplit(" ", 1) for block in blocks]
    kinds = list(dict.fromkeys(kind for kind, _ in names))
    assert kinds == (["double block"] if family == "sd3" else ["input", "middle", "output"])
    for kind in kinds:
        numbers = [int(number) for own, number in names if own == kind]
        assert numbers == sorted(set(numbers))
    assert len(names) == len({key[:2] for key in keys_of_sites(small_models.applied(bare, embeds))})


def test_an_adapter_is_seen_only_in_the_steps_in_which_it_acts(bare, embeds, other, batch):
    late = small_models.applied(small_models.applied(bare, embeds), other, start_percent=0.5)
    watch = seen(late, batch)
    first, *_, last = (share for _, share in watch.over_steps(8))
    assert (first[0] > 0).all() and (first[1] == 0).all()
    assert (last > 0).all()
    acting = [share[1] for _, share in watch.over_steps(8) if share[1].any()]
    close(watch.mean()[1], torch.stack(acting).mean(dim=0))


def test_calls_in_which_no_adapter_acts_are_no_moments(bare, embeds, batch):
    assert len(seen(small_models.applied(bare, embeds), batch).moments) == STEPS
    assert 0 < len(seen(small_models.applied(bare, embeds, start_percent=0.5), batch).moments) < STEPS
