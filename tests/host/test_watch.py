"""Watching the attention on real samplers: it changes nothing, and sees what the attention really is given.

Bit for bit unless a tolerance is given.
"""

import pytest
import torch
from ipadapter_instruct.models.attention_maps import heat_maps
from ipadapter_instruct.models.attention_maps import record as watching
from ipadapter_instruct.models.attention_maps.heat_maps import SCALES, coloured, enlarged
from ipadapter_instruct.models.attention_maps.record import Watch, watched
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerWeights
from ipadapter_instruct.models.patching.chain import CHAIN
from ipadapter_instruct.nodes.explore.heat_map import VIEWS, IPAdapterInstructHeatMap
from ipadapter_instruct.nodes.explore.watch import IPAdapterInstructWatch
from support import small_models
from support.other_nodes.with_other_node import in_parts
from support.pack_nodes import run_node
from support.sampling.host_samplers import CFG, SEED, one_step_over_areas
from support.sampling.scenes import text
from support.sampling.short_runs import STEPS, close, noise, same, sample

import nodes as host_nodes

MODES = ["simple", "three-way"]
TOKENS = 16
PRECISE = {"sd15": [0, 1, 2, 3, *range(9, 16)], "sdxl": [6]}  # where the style acts on the positive
LARGE = {"sd15": (57, 96), "sdxl": (57, 96), "sd3": (38, 64)}  # the small SD3 takes no larger one


@pytest.fixture(scope="module")
def other(embeds):
    """Another picture."""
    return InstructEmbeds(embeds.adapter, "use the style", embeds.image_tokens.map(lambda t: t.roll(7, dims=-1)))


@pytest.fixture(scope="module")
def batch(bare):
    return noise(bare, 2, 8, 12)


def seen(model, latents, **settings) -> Watch:
    """What a watch sees while these latents are sampled."""
    model, watch = watched(model)
    sample(model, latents, **settings)
    return watch


def first_block(watch: Watch) -> torch.Tensor:
    """The share in the first of the model's blocks that have one."""
    return next(iter(watch.over_blocks().values()))


@pytest.fixture
def first_seen(monkeypatch):
    """A function: the shares [latents, positions] in the first attention that is seen, before which no adapter acts."""
    shares, original = [], watching.attention_to

    def look(*args):
        found = original(*args)
        shares.append(found[0])
        return found

    def first(model, latents, number: int = 1) -> list[torch.Tensor]:
        shares.clear()
        seen(model, latents, last_step=1)
        return shares[:number]

    monkeypatch.setattr(watching, "attention_to", look)
    return first


def law_abiding(watch: Watch, adapters: int, latents: int) -> None:
    shares = watch.mean()
    assert shares.shape[:2] == (adapters, latents)
    assert shares.min() >= 0 and shares.max() <= 1
    tokens = watch.token_maps()
    assert len(tokens) == adapters
    for own in tokens.values():
        assert own.shape[:2] == (latents, TOKENS)
        close(own.sum(dim=1), torch.ones(latents, *shares.shape[2:]), 1e-5)


# It changes nothing


@pytest.mark.spread("family", "size")
@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("size", [(8, 12), (9, 13), (17, 5)], ids=str)
def test_watching_changes_nothing_of_the_picture_at_any_size(bare, embeds, guidance, size):
    latents, mask = noise(bare, 2, *size), torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(1))
    model = small_models.applied(bare, embeds, mask, guidance=guidance)
    looked_at, watch = watched(model)
    same(sample(looked_at, latents), sample(model, latents))
    law_abiding(watch, adapters=1, latents=2)
    assert watch.mean().shape[2:] == size


def test_the_model_that_is_watched_is_a_clone_and_its_clones_share_the_watch(bare, embeds, batch):
    model = small_models.applied(bare, embeds)
    looked_at, watch = watched(model)
    sample(model, batch)
    assert watch.latents == 0
    sample(looked_at.clone(), batch)
    assert watch.latents == 2


def test_every_run_begins_anew(bare, embeds, batch):
    model, watch = watched(small_models.applied(bare, embeds))
    sample(model, batch)
    sample(model, batch[:1])
    same(watch.mean(), seen(small_models.applied(bare, embeds), batch[:1]).mean())


# It sees what is there


def calls_of(model) -> tuple[object, list]:
    """The model, and the queries, keys and heads of every attention that it has computed."""
    calls, model = [], model.clone()

    def look(function, q, k, v, heads, *args, **kwargs):
        calls.append((q.clone(), k.clone(), heads))
        return function(q, k, v, heads, *args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = look
    return model, calls


def plain_share(queries, own, others, heads) -> tuple[torch.Tensor, torch.Tensor]:
    """One row's softmax, head by head: the mass on its own keys [N], and each one's part of it [T, N]."""
    shares, parts = [], []
    pieces = (x.split(x.shape[-1] // heads, dim=-1) for x in (queries, own, others))
    for q, k, o in zip(*pieces, strict=True):
        weights = (q @ torch.cat((k, o)).T / q.shape[-1] ** 0.5).softmax(dim=-1)[:, : len(k)]
        shares.append(weights.sum(dim=-1))
        parts.append((weights / weights.sum(dim=-1, keepdim=True)).T)
    return torch.stack(shares).mean(dim=0), torch.stack(parts).mean(dim=0)


def adapters_attentions(family: str, calls: list, positions: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The plain shares and parts of each attention of an adapter, of the only row.

    A UNet's comes after the text's, with the same queries. An MMDiT's is over image stream and tokens, with the text
    stream's queries before the picture's.
    """
    if family == "sd3":
        own = (call for call in calls if call[1].shape[1] == positions + TOKENS)
        return [plain_share(q[0, -positions:], k[0, positions:], k[0, :positions], heads) for q, k, heads in own]
    return [
        plain_share(q[0], keys[0], text_keys[0], heads)
        for (text_q, text_keys, heads), (q, keys, _) in zip(calls, calls[1:], strict=False)
        if keys.shape[1] == TOKENS and torch.equal(q, text_q)
    ]


@pytest.fixture(scope="module")
def plain_and_seen(bare, embeds, family):
    """One step with one row: the plain computation for each attention, and the watch."""
    patch = 2 if family == "sd3" else 1
    with torch.inference_mode():
        model, calls = calls_of(small_models.applied(bare, embeds, guidance="simple"))
        watch = seen(model, noise(bare, 1, 8 * patch, 12 * patch), cfg=1.0, last_step=1)
        plain = adapters_attentions(family, calls, 8 * 12)
    assert len(plain) == len(embeds.adapter.projections.widths)
    return plain, watch


def keys_of_sites(model) -> tuple:
    return tuple(model.model_options["transformer_options"][CHAIN].applied[0].layers)


def test_shares_are_those_of_the_queries_and_keys_that_the_attention_is_given(plain_and_seen, embeds, bare, family):
    """In the first block, of which every position is a square of the map's."""
    plain, watch = plain_and_seen
    keys = keys_of_sites(small_models.applied(bare, embeds))
    depth = len([key for key in keys if key[:2] == keys[0][:2]])
    side = {"sd15": 1, "sdxl": 2, "sd3": 2}[family]
    found = first_block(watch)[0, 0]
    expected = torch.stack([share for share, _ in plain[:depth]]).mean(dim=0).view(found.shape[0] // side, -1)
    assert expected.std() > 1e-3
    close(found, expected.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1), 1e-5)


def test_the_tokens_parts_are_the_mean_over_all_attentions(plain_and_seen):
    """Blocks of a UNet have their own resolutions; what each token gets of the whole picture is compared."""
    plain, watch = plain_and_seen
    expected = torch.stack([part.mean(dim=-1) for _, part in plain]).mean(dim=0)
    assert expected.std() > 1e-3
    close(watch.token_maps()[0][0].mean(dim=(1, 2)), expected, 1e-5)


def test_only_the_full_branch_is_seen(bare, embeds, batch):
    """The positive with the picture, whatever other branches are in the batch."""
    alone = seen(small_models.applied(bare, embeds, guidance="simple"), batch, cfg=1.0, last_step=1)
    for guidance in MODES:
        found = seen(small_models.applied(bare, embeds, guidance=guidance), batch, last_step=1)
        close(first_block(found), first_block(alone))


def test_a_text_that_the_host_repeats_counts_once(bare, embeds, family, batch):
    """In one batch with a negative of twice its length, and alone."""
    model, watch = watched(small_models.applied(bare, embeds, guidance="simple"))
    found = []
    for length in (77, 154):
        positive, negative = text("positive", family), text("negative", family, length)
        conds = [[[t.context, t.values]] for t in (positive, negative)]
        latent = {"samples": torch.zeros_like(batch)}
        host_nodes.KSampler().sample(model, SEED, 1, CFG, "euler", "normal", *conds, latent, 1.0)
        found.append(first_block(watch))
    close(*found)


@pytest.mark.parametrize("guidance", MODES)
def test_a_mask_hides_nothing_from_the_watch(bare, embeds, batch, first_seen, guidance):
    """It acts on what the attention gives; what the positions look at is seen as without it."""
    masked, whole = (
        first_seen(small_models.applied(bare, embeds, mask, guidance=guidance), batch)
        for mask in (torch.zeros(1, 16, 24), None)
    )
    same(*masked, *whole)


def test_a_weight_changes_nothing_of_what_is_seen_but_inside_the_attention(bare, embeds, family, batch, first_seen):
    (weak,), (strong,) = (first_seen(small_models.applied(bare, embeds, weight=weight), batch) for weight in (0.3, 0.9))
    same(weak, strong)
    if family != "sd3":  # with the weight on the keys it does
        inside = small_models.applied(bare, embeds, weight=0.3, layers=LayerWeights(scaling=KV))
        assert not torch.allclose(*first_seen(inside, batch), weak, atol=1e-3)


@pytest.mark.parametrize("family", PRECISE, indirect=True)
def test_blocks_where_only_the_negative_gets_the_picture_are_not_seen(bare, embeds, family, batch):
    layers = LayerWeights("strong style and composition"), LayerWeights("style transfer precise")
    every, precise = (seen(small_models.applied(bare, embeds, layers=own), batch).over_blocks() for own in layers)
    assert list(precise) == [name for number, name in enumerate(every) if number in PRECISE[family]]


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
    one_step_over_areas(model, family, torch.zeros_like(noise(bare, 2)), (8, 12, 4, 6))
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[4:12, 6:18] = True
    shares, tokens = watch.mean()[0], watch.token_maps()[0]
    assert (shares[:, inside] > 0).all() and (shares[:, ~inside] == 0).all()
    close(tokens.sum(dim=1), inside.float().expand(2, -1, -1))


def test_where_areas_overlap_their_mean_is_seen(bare, embeds, family):
    model, watch = watched(small_models.applied(bare, embeds, guidance="simple"))
    latents, area, found = torch.zeros_like(noise(bare)), (8, 12, 4, 6), []
    for areas in ((None, area), (None,)):
        one_step_over_areas(model, family, latents, *areas)
        found.append(first_block(watch)[0, 0])
    part, whole = found
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[4:12, 6:18] = True
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


# Memory


def test_a_few_moments_are_kept_of_many_calls_and_all_of_them_count(bare, embeds, batch, monkeypatch):
    model, watch = watched(small_models.applied(bare, embeds))
    sizes = []
    for most in (2, 200):
        monkeypatch.setattr(watching, "MOST_MOMENTS", most)
        positive, negative = (
            small_models.golden_conditioning(bare.model.family, name) for name in ("positive", "negative")
        )
        latent = {"samples": torch.zeros_like(batch)}
        host_nodes.KSampler().sample(model, SEED, 4, CFG, "heun", "normal", positive, negative, latent, 1.0)
        sizes.append((len(watch.moments), watch.mean(), watch.moments[0].noise_level))
    (few, mean, level), (all_of_them, expected, first_level) = sizes
    assert (few, all_of_them, level) == (2, 7, first_level)
    close(mean, expected)


def test_attention_in_small_parts_is_the_same(bare, embeds, batch, monkeypatch):
    expected = seen(small_models.applied(bare, embeds), batch)
    monkeypatch.setattr(heat_maps, "AT_ONCE", 5000)
    found = seen(small_models.applied(bare, embeds), batch)
    close(found.mean(), expected.mean())
    close(found.token_maps()[0], expected.token_maps()[0])


def test_what_is_kept_of_a_large_latent_is_small_and_in_memory(embeds, bare, family):
    watch = seen(
        small_models.applied(bare, embeds, guidance="simple"), noise(bare, 1, *LARGE[family]), cfg=1.0, last_step=1
    )
    kept = [*watch.tokens.values(), *(m for own in watch.blocks.values() for m in own.values())]
    kept += [m for moment in watch.moments for m in moment.maps.values()]
    for mean in kept:
        assert mean.total.shape[-2:] == (38, 64)
        assert mean.total.device.type == "cpu" and mean.total.dtype == torch.float32
        assert mean.total.untyped_storage().nbytes() <= TOKENS * 38 * 64 * 4
    law_abiding(watch, adapters=1, latents=1)


# The nodes


SETTINGS = {"view": "picture", "opacity": 0.6, "scale": "each map"}


def pictures(number: int, height: int = 128, width: int = 192) -> torch.Tensor:
    return torch.rand(number, height, width, 3, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def two_by_two(bare, embeds, other, batch) -> Watch:
    """Two adapters, two latents."""
    with torch.inference_mode():
        return seen(small_models.applied(small_models.applied(bare, embeds), other), batch)


def draw(watch: Watch, image: torch.Tensor, **changes):
    return run_node(IPAdapterInstructHeatMap, watch=watch, image=image, **{**SETTINGS, **changes})


def test_the_watch_node_hands_out_a_watched_model_and_its_watch(bare, embeds, batch):
    model, watch = run_node(IPAdapterInstructWatch, model=small_models.applied(bare, embeds)).args
    sample(model, batch)
    law_abiding(watch, adapters=1, latents=2)


def test_a_model_without_an_adapter_is_refused(bare):
    with pytest.raises(ValueError, match="model with an adapter applied was expected.*Connect the model of Apply"):
        run_node(IPAdapterInstructWatch, model=bare)


def test_there_is_one_overlay_for_each_adapter_and_picture_and_its_map(two_by_two):
    image = pictures(2)
    overlay, maps = draw(two_by_two, image, opacity=1.0).args
    assert overlay.shape == (4, 128, 192, 3) and maps.shape == (4, 128, 192)
    expected = two_by_two.mean().flatten(0, 1)
    same(maps, enlarged(expected, (128, 192)))
    largest = expected.amax(dim=(1, 2), keepdim=True)
    close(overlay, coloured(enlarged(expected / largest, (128, 192))))
    same(draw(two_by_two, image, opacity=0.0).args[0], image.repeat(2, 1, 1, 1))


def test_all_alike_shows_the_larger_share_brighter(two_by_two):
    means = two_by_two.mean().mean(dim=(2, 3)).flatten()
    overlay = draw(two_by_two, pictures(2), opacity=1.0, scale="all alike").args[0]
    assert overlay.mean(dim=(1, 2, 3)).argsort().tolist() == means.argsort().tolist()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_a_picture(two_by_two, view, scale):
    image = torch.cat([pictures(2), torch.ones(2, 128, 192, 1)], dim=-1)  # with an alpha channel
    overlay, maps = draw(two_by_two, image, view=view, scale=scale).args
    assert overlay.ndim == 4 and overlay.shape[-1] == 3 and overlay.dtype == torch.float32
    assert overlay.min() >= 0 and overlay.max() <= 1
    same(maps, draw(two_by_two, image).args[1])
    if view != "picture":
        assert len(overlay) == 1
        height, width = overlay.shape[1:3]
        assert height > 4 * 128 and width > 2 * 192  # 4 rows, 2 columns at least, and labels


def test_the_nodes_text_says_each_adapters_mean_share(two_by_two):
    shares = two_by_two.mean()
    expected = [f"use the composition: {shares[0].mean():.1%} of", f"use the style: {shares[1].mean():.1%} of"]
    shown = draw(two_by_two, pictures(2)).ui["text"]
    assert len(shown) == 2
    assert all(line.startswith(start) for line, start in zip(shown, expected, strict=True))


def test_drawing_again_changes_nothing(two_by_two):
    first, second = (draw(two_by_two, pictures(2), view="over steps").args[0] for _ in range(2))
    same(first, second)


def test_before_any_sampling_the_error_says_what_to_do(bare, embeds):
    _, watch = watched(small_models.applied(bare, embeds))
    with pytest.raises(ValueError, match="nothing was seen yet. Connect .* sample again, with another seed"):
        draw(watch, pictures(1))


def test_a_run_in_which_nothing_acts_is_none(bare, embeds, batch):
    watch = seen(small_models.applied(bare, embeds, weight=0.0), batch)
    with pytest.raises(ValueError, match="nothing was seen.* weight of 0"):
        draw(watch, pictures(2))


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_pictures_is_refused(two_by_two, number):
    with pytest.raises(ValueError, match=f"were expected, 2; image holds {number}. Connect"):
        draw(two_by_two, pictures(number))


@pytest.mark.parametrize("changes", [{"view": "sideways"}, {"scale": "logarithmic"}])
def test_an_unknown_view_or_scale_is_refused(two_by_two, changes):
    with pytest.raises(ValueError, match="was expected to be one of"):
        draw(two_by_two, pictures(2), **changes)
