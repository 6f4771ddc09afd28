"""Watching the attention on real samplers: it changes nothing, and sees what the attention really is given.

Bit for bit unless a tolerance is given.
"""

import pytest
import torch
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerWeights
from support import small_models
from support.other_nodes.with_other_node import MODES
from support.sampling.host_samplers import CFG, SEED
from support.sampling.scenes import text
from support.sampling.short_runs import close, noise, same, sample
from support.sampling.watching import TOKENS, first_block, keys_of_sites, law_abiding, seen

import nodes as host_nodes

PRECISE = {"sd15": [0, 1, 2, 3, *range(9, 16)], "sdxl": [6]}  # where the style acts on the positive


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
