"""Laws of what is computed of tensors of any sizes: projections, pictures, maps, files. float64 where not said."""

import math

import torch
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from ipadapter_instruct.models.adapter.resampler import ProjectionSizes, Resampler
from ipadapter_instruct.models.attention_maps.heat_maps import attention_to, kept_size, placed
from ipadapter_instruct.models.denoisers.adapter_layers import SiteProjections, TokenProjections
from ipadapter_instruct.models.encoding.stored_embeds import StoredEmbeds, read_embeds, write_embeds
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.reference.preparing import crop_around, feathered, tile_grid, tiles
from torch import nn

seeds = st.integers(0, 2**32)
sides = st.integers(1, 40)
FEWER = max(settings.default.max_examples // 2, 1)


def close(found, expected, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module: nn.Module, seed: int) -> nn.Module:
    made = torch.Generator().manual_seed(seed)
    module = module.double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=made, dtype=torch.float64) / parameter.shape[-1] ** 0.5)
    return module


# Projections


@st.composite
def resamplers(draw) -> Resampler:
    small = st.integers(1, 9)
    sizes = ProjectionSizes(
        tokens=draw(small), width=draw(small), heads=draw(st.integers(1, 2)), blocks=draw(st.integers(1, 2)),
        image_width=draw(small), text_width=draw(small), out_width=draw(small), image_ff=draw(small),
        prompt_ff=draw(small), instruct_ff=draw(small),
    )  # fmt: skip
    return filled(Resampler(sizes), draw(seeds))


@settings(max_examples=FEWER)
@given(resamplers(), st.integers(2, 4), st.integers(1, 6), st.integers(1, 4), seeds, st.data())
def test_a_resampler_takes_pictures_and_patches_in_any_order(resampler, rows, patches, words, seed, data):
    sizes = resampler.sizes
    image, texts = randn(seed, rows, patches, sizes.image_width), randn(seed + 1, 2, rows, words, sizes.text_width)
    whole = resampler(image, *texts)
    assert whole.shape == (rows, sizes.tokens, sizes.out_width)
    order = data.draw(st.permutations(range(rows)))
    close(resampler(image[order], *texts[:, order]), whole[order])
    at = data.draw(st.integers(1, rows - 1))
    parts = [resampler(image[part], *texts[:, part]) for part in (slice(at), slice(at, None))]
    close(torch.cat(parts), whole)
    patch_order = data.draw(st.permutations(range(patches)))
    close(resampler(image[:, patch_order], *texts), whole)
    sizes_read = Resampler.read_sizes(resampler.state_dict())
    assert sizes_read == sizes


@settings(max_examples=FEWER)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 5), seeds, st.floats(-3, 3), st.data())
def test_keys_and_values_are_linear_and_only_of_the_wanted_sites(widths, context, seed, factor, data):
    sites = filled(SiteProjections({2 * n + 1: width for n, width in enumerate(widths)}, context), seed)
    blocks = filled(TokenProjections(dict.fromkeys(range(0, 2 * len(widths), 2), context)), seed)
    one, other = randn(seed, 2, 3, context), randn(seed + 1, 2, 3, context)
    wanted = data.draw(st.sets(st.integers(0, len(widths) - 1)))
    for projections in (sites, blocks):
        both, first, second = (list(projections(x)) for x in (one + factor * other, one, other))
        for found, a, b in zip(both, first, second, strict=True):
            for x, y, z in zip(found, a, b, strict=True):
                close(x, y + factor * z)
        for found, place in zip(projections(one, wanted), sorted(wanted), strict=True):
            close(found[0], first[place][0], 0)
            close(found[1], first[place][1], 0)


# Pictures


@given(sides, sides, st.integers(1, 12), st.floats(0, 0.5))
def test_tiles_lie_in_the_picture_where_they_fit_and_cover_every_pixel(height, width, most, overlap):
    grid = tile_grid(height, width, most, overlap)
    assert 1 <= grid.tiles <= most
    event(f"tiles: {grid.rows} x {grid.columns}")
    covered = torch.zeros(height, width)
    for square in grid.squares(height, width):
        assert square.side == grid.side <= max(height, width)
        for start, length in ((square.top, height), (square.left, width)):
            assert 0 <= start <= length - grid.side or start <= 0 and start + grid.side >= length
        covered[max(square.top, 0) : square.top + square.side, max(square.left, 0) : square.left + square.side] = 1
    assert covered.all()


@settings(max_examples=FEWER)
@given(st.integers(1, 2), sides, sides, st.integers(1, 6), st.floats(0, 0.5), st.booleans(), seeds)
def test_tiles_of_a_batch_are_each_pictures_and_hold_its_pixels(rows, height, width, most, overlap, whole, seed):
    image = randn(seed, rows, height, width, 3).sigmoid().float()
    grid = tile_grid(height, width, most, overlap)
    found = tiles(image, grid, whole)
    close(found, torch.cat([tiles(one[None], grid, whole) for one in image]), 0)
    assert len(found) == rows * (grid.tiles + (whole and grid.tiles > 1))
    assert found.min() >= 0 and found.max() <= 1
    last = found[-1]
    square = grid.squares(height, width)[-1]
    y, x = max(square.top, 0), max(square.left, 0)
    close(last[y - square.top, x - square.left], image[-1, y, x], 0)


@given(sides, sides, st.floats(0, 2), seeds)
def test_a_crop_is_a_square_with_the_whole_mark_in_it(height, width, padding, seed):
    marked = randn(seed, 1, height, width) > 1.5
    marked[0, seed % height, seed % width] = True
    image = marked.float().unsqueeze(-1).expand(-1, -1, -1, 3)
    pictures, masks = crop_around(image, marked.float(), padding)
    assert pictures.shape[1] == pictures.shape[2] and masks.shape == pictures.shape[:3]
    close(masks.sum(), marked.float().sum(), 1e-3)


@given(sides, sides, st.floats(0, 8), seeds)
@example(height=1, width=1, softness=1e-45, seed=0)  # was NaN
def test_a_feathered_mask_stays_between_its_values_and_leaves_an_even_one(height, width, softness, seed):
    mask = randn(seed, 1, height, width).sigmoid().float()
    found = feathered(mask, softness)
    assert found.shape == mask.shape
    assert mask.min() - 1e-5 <= found.min() and found.max() <= mask.max() + 1e-5
    even = torch.full_like(mask, float(mask[0, 0, 0]))
    close(feathered(even, softness), even, 1e-5)


# Maps of attention


@settings(max_examples=FEWER)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), seeds)
def test_attention_to_image_tokens_is_a_softmaxs(rows, positions, count, others, heads, seed):
    """float32, within 1e-5 of the whole attention matrix's."""
    queries, keys, rest = (randn(seed + n, rows, x, 4 * heads) for n, x in enumerate((positions, count, others)))
    share, own = attention_to(queries, keys, rest, heads)
    q, k = (x.unflatten(-1, (heads, 4)).transpose(1, 2) for x in (queries, torch.cat([keys, rest], dim=1)))
    weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)[..., :count]
    close(share.double(), weights.sum(-1).mean(1), 1e-5)
    close(own.double(), (weights / weights.sum(-1, keepdim=True)).mean(1).transpose(1, 2), 1e-5)


@given(st.integers(1, 100), st.integers(1, 100), st.data())
def test_a_map_of_ones_stays_one_wherever_its_area_lies(height, width, data):
    area = None
    if data.draw(st.booleans()):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        area = (data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)), top, left)
    found = placed(torch.ones(1, 1, 3, 2), area, (height, width))
    assert found.value.shape[-2:] == kept_size((height, width)) and max(found.value.shape[-2:]) <= 64
    covered = found.coverage > 0
    close(found.value[covered], torch.ones_like(found.value[covered]), 1e-5)
    share = 1.0 if area is None else area[0] * area[1] / (height * width)
    assert math.isclose(float(found.coverage.mean()), share, abs_tol=0.1) or max(height, width) > 64


# Files


@settings(max_examples=FEWER)
@given(
    st.text(max_size=30), st.integers(1, 3), st.integers(1, 4), st.booleans(), seeds,
    st.sampled_from((torch.float32, torch.float16, torch.bfloat16)),
)  # fmt: skip
def test_embeds_with_any_instruction_are_read_as_they_were_written(
    tmp_path_factory, instruction, latents, count, weighted, seed, dtype
):
    own = Branches(*(randn(seed + n, latents, count, 3).to(dtype) for n in range(4)))
    weights = randn(seed, latents, count).float() if weighted else None
    target = tmp_path_factory.mktemp("embeds") / "one.instruct.safetensors"
    write_embeds(StoredEmbeds(instruction, "sd15", "small.bin", "abc", own, weights), target)
    found = read_embeds(target)
    assert found.instruction == instruction
    for branch, values in own.items():
        close(found.image_tokens[branch], values, 0)
    assert (found.token_weights is None) == (weights is None)
    if weighted:
        close(found.token_weights, weights, 0)
