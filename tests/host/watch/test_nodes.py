"""The nodes Watch and Heat Map, and how little a watch keeps in memory.

Bit for bit unless a tolerance is given.
"""

import pytest
import torch
from ipadapter_instruct.models.attention_maps import heat_maps
from ipadapter_instruct.models.attention_maps import record as watching
from ipadapter_instruct.models.attention_maps.heat_maps import SCALES, coloured, enlarged
from ipadapter_instruct.models.attention_maps.record import Watch, watched
from ipadapter_instruct.nodes.explore.heat_map import VIEWS, IPAdapterInstructHeatMap
from ipadapter_instruct.nodes.explore.watch import IPAdapterInstructWatch
from support import small_models
from support.pack_nodes import run_node
from support.sampling.host_samplers import CFG, SEED
from support.sampling.short_runs import close, noise, same, sample
from support.sampling.watching import TOKENS, law_abiding, seen

import nodes as host_nodes

LARGE = {"sd15": (57, 96), "sdxl": (57, 96), "sd3": (38, 64)}  # the small SD3 takes no larger one


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
