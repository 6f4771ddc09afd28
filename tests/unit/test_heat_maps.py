"""Laws of the attention's maps and of their pictures. Bit for bit unless a tolerance is given."""

import pytest
import torch
from ipadapter_instruct.models.attention_maps import heat_maps
from ipadapter_instruct.models.attention_maps.heat_maps import (
    ALL_ALIKE,
    EACH_MAP,
    INFERNO,
    LARGEST_SIDE,
    Mean,
    attention_to,
    coloured,
    enlarged,
    kept_size,
    normalised,
    overlaid,
    placed,
)
from torch.utils._python_dispatch import TorchDispatchMode

HEADS, WIDTH = 4, 32
POSITIONS, TOKENS, OTHERS = 30, 5, 7


def made(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def attention(rows: int = 2, positions: int = POSITIONS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Queries, image keys, other keys and the number of heads."""
    queries, keys, others = (made(rows, n, WIDTH, seed=n) for n in (positions, TOKENS, OTHERS))
    return 3 * queries, keys, others, HEADS


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 0) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# Attention


def test_the_share_is_the_image_tokens_part_of_one_softmax_head_by_head():
    queries, keys, others, heads = attention()
    found, _ = attention_to(queries, keys, others, heads)
    size = WIDTH // heads
    for row in range(len(queries)):
        for position in range(POSITIONS):
            parts = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                logits = torch.cat((keys[row, :, own], others[row, :, own])) @ queries[row, position, own] / size**0.5
                parts.append(logits.softmax(dim=0)[:TOKENS].sum())
            same(found[row, position], torch.stack(parts).mean(), 1e-6)


def test_the_tokens_parts_sum_to_1_and_are_those_of_the_image_tokens_own_attention():
    queries, keys, others, heads = attention()
    _, tokens = attention_to(queries, keys, others, heads)
    same(tokens.sum(dim=1), torch.ones(2, POSITIONS), 1e-6)
    split = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (queries, keys))
    values = torch.eye(TOKENS).expand(2, heads, TOKENS, TOKENS)  # attention to these gives its own weights
    weights = torch.nn.functional.scaled_dot_product_attention(*split, values).mean(dim=1)
    same(tokens, weights.transpose(1, 2), 1e-6)


def test_shares_lie_between_0_and_1_however_large_the_logits_are():
    queries, keys, others, heads = attention()
    for own, other in ((keys, others), (-keys, others), (keys * 0, others), (keys, others * 0)):
        share, _ = attention_to(1000 * queries, 1000 * own, 1000 * other, heads)
        assert share.isfinite().all() and share.min() >= 0 and share.max() <= 1


def test_without_any_difference_each_key_gets_as_much_as_the_others():
    queries, keys, others, heads = attention()
    share, tokens = attention_to(queries, 0 * keys, 0 * others, heads)
    same(share, torch.full_like(share, TOKENS / (TOKENS + OTHERS)), 1e-6)
    same(tokens, torch.full_like(tokens, 1 / TOKENS), 1e-6)


def test_keys_for_all_rows_are_those_of_each():
    queries, keys, others, heads = attention()
    found = attention_to(queries, keys[:1], others, heads)
    expected = attention_to(queries, keys[:1].expand(2, -1, -1), others, heads)
    for one, other in zip(found, expected, strict=True):
        same(one, other, 1e-6)


def test_half_precision_is_computed_in_full():
    queries, keys, others, heads = (x.half() if isinstance(x, torch.Tensor) else x for x in attention())
    found = attention_to(200 * queries, 200 * keys, 200 * others, heads)  # logits beyond half precision's range
    expected = attention_to((200 * queries).float(), (200 * keys).float(), (200 * others).float(), heads)
    for one, other in zip(found, expected, strict=True):
        same(one, other)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("at_once", [1, 100, 1000])
def test_a_few_positions_at_a_time_are_all_of_them_and_take_no_more_memory(monkeypatch, at_once):
    given = attention(positions=500)
    expected = attention_to(*given)
    monkeypatch.setattr(heat_maps, "AT_ONCE", at_once)
    with Largest() as largest:
        found = attention_to(*given)
    for one, other in zip(found, expected, strict=True):
        same(one, other, 1e-6)
    whole = 2 * 500 * HEADS * (TOKENS + OTHERS)
    assert largest.elements <= max(at_once, given[0].numel()) < whole


# Maps


@pytest.mark.parametrize(
    "size, expected",
    [((64, 64), (64, 64)), ((8, 13), (8, 13)), ((128, 96), (64, 48)), ((65, 1), (64, 1)), ((3, 1000), (1, 64))],
)
def test_maps_are_kept_at_64_positions_a_side_at_most(size, expected):
    assert kept_size(size) == expected
    assert max(expected) <= LARGEST_SIDE


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 7), (16, 24), (200, 300)])
def test_a_map_of_one_value_has_it_everywhere(size):
    found = placed(torch.full((2, 3, *size), 0.25), None, (16, 24))
    same(found.value, torch.full((2, 3, 16, 24), 0.25), 1e-7)


def test_a_larger_map_is_averaged_and_a_smaller_one_repeated():
    given = maps(1, 1, 16, 24)
    same(placed(given, None, (8, 12)).value, torch.nn.functional.avg_pool2d(given, 2), 1e-6)
    repeated = given.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    same(placed(given, None, (32, 48)).value, repeated, 1e-6)


@pytest.mark.parametrize("grid", [(4, 6), (2, 3), (8, 12)])
def test_an_areas_map_stands_at_its_place_and_nothing_elsewhere(grid):
    found = placed(torch.full((1, 2, *grid), 0.5), (4, 6, 3, 5), (16, 24)).value
    expected = torch.zeros(1, 2, 16, 24)
    expected[..., 3:7, 5:11] = 0.5
    same(found, expected, 1e-7)


def test_an_area_of_a_large_latent_covers_the_positions_it_touches():
    found = placed(torch.full((1, 1, 4, 4), 0.5), (63, 63, 1, 1), (128, 128))
    expected = torch.zeros(1, 1, 64, 64)
    expected[..., :32, :32] = 0.5
    same(found.value, expected, 1e-6)
    same(found.coverage[0, 0, 0, 0], torch.tensor(0.25))


def test_the_whole_latent_as_an_area_is_the_whole_latent():
    given = maps(2, 3, 8, 12)
    same(placed(given, (16, 24, 0, 0), (16, 24)).value, placed(given, None, (16, 24)).value, 1e-6)


def test_where_areas_meet_their_mean_counts():
    left = placed(torch.full((1, 1, 4, 4), 0.2), (8, 8, 0, 0), (8, 12))
    right = placed(torch.full((1, 1, 4, 4), 0.6), (8, 8, 0, 4), (8, 12))
    found = (left + right).value[0, 0]
    for columns, value in ((slice(0, 4), 0.2), (slice(4, 8), 0.4), (slice(8, 12), 0.6)):
        same(found[:, columns], torch.full((8, 4), value), 1e-6)


def test_a_mean_is_that_of_all_that_was_added():
    given = [maps(4, 5, seed=seed) for seed in range(3)]
    total = Mean(given[0], torch.ones(4, 5)) + Mean(given[1], torch.ones(4, 5)) + Mean(given[2], torch.ones(4, 5))
    same(total.value, torch.stack(given).mean(dim=0), 1e-6)
    same(total.as_one().value, total.value)
    same(total.as_one().coverage, torch.ones(4, 5))


def test_where_some_of_a_mean_is_missing_what_there_is_counts_once():
    total = Mean(torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 2.0]))
    same(total.as_one().total, torch.tensor([0.0, 0.5, 1.5]))
    same(total.as_one().coverage, torch.tensor([0.0, 1.0, 1.0]))


def test_a_larger_map_of_an_area_is_averaged():
    given = maps(1, 1, 16, 16)
    found = placed(given, (8, 8, 0, 4), (8, 12))
    same(found.total[..., 4:], torch.nn.functional.avg_pool2d(given, 2), 1e-6)


# Pictures


def test_a_map_made_smaller_is_averaged_and_no_point_of_it_passed_over():
    given = torch.zeros(1, 40, 40)
    given[:, 17, 23] = 1.0
    assert enlarged(given, (4, 4)).sum() == pytest.approx(0.01, rel=0.3)


def test_each_maps_largest_value_is_1_or_the_largest_of_all():
    given = torch.stack([0.5 * maps(4, 5), maps(4, 5, seed=1), torch.zeros(4, 5)])
    each, alike = normalised(given, EACH_MAP), normalised(given, ALL_ALIKE)
    same(each.amax(dim=(1, 2)), torch.tensor([1.0, 1.0, 0.0]))
    same(alike, given / given.max())
    for one, own in zip(each, given, strict=True):
        same(one * own.max(), own, 1e-6)


def test_colours_are_infernos_and_between_them_the_nearer_one_counts_more():
    found = coloured(torch.linspace(0, 1, len(INFERNO)))
    same(found, torch.tensor(INFERNO), 1e-6)
    quarter = coloured(torch.tensor([0.25 / (len(INFERNO) - 1)]))
    same(quarter[0], 0.75 * torch.tensor(INFERNO[0]) + 0.25 * torch.tensor(INFERNO[1]), 1e-6)


def test_a_larger_value_is_always_brighter():
    brightness = coloured(torch.linspace(0, 1, 500)) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (brightness.diff() > 0).all()


def test_values_beyond_0_and_1_have_their_colours():
    same(coloured(torch.tensor([-1.0, 2.0])), coloured(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 96), (5, 300)])
def test_maps_of_another_size_keep_their_range(size):
    given = maps(2, 16, 24)
    found = enlarged(given, size)
    assert found.shape == (2, *size)
    assert found.min() >= given.min() and found.max() <= given.max()
    same(enlarged(torch.full((1, 16, 24), 0.3), size), torch.full((1, *size), 0.3), 1e-6)


def test_opacity_goes_from_the_picture_to_the_colours_of_the_map():
    pictures, given = maps(2, 40, 60, 3), maps(2, 8, 12, seed=1)
    colours = coloured(enlarged(given, (40, 60)))
    same(overlaid(pictures, given, 0.0), pictures)
    same(overlaid(pictures, given, 1.0), colours)
    same(overlaid(pictures, given, 0.25), 0.75 * pictures + 0.25 * colours, 1e-6)
