"""Several references in one Apply, on real samplers: one for each latent of a batch, and weights of their own.

Expected are as many runs apart, or laws. Bit for bit unless a tolerance is given.
"""

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import AVERAGE, CONCAT, PER_INDEX, combine_references
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.branches import Branches
from support import small_models
from support.other_nodes.with_other_node import in_parts
from support.sampling.short_runs import close, noise, same, sample

MODES = ["simple", "three-way"]
REFERENCES = 3


@pytest.fixture(scope="module")
def batch(bare):
    return noise(bare, REFERENCES, 8, 12)


def references(tokens: Branches, number: int = REFERENCES) -> Branches:
    """[number, T, width]: other pictures' tokens, made of one's."""
    return tokens.map(lambda t: torch.cat([t.roll(7 * n, dims=-1) for n in range(number)]))


def combined(embeds: InstructEmbeds, mode: str, weights=(), number: int = REFERENCES) -> InstructEmbeds:
    """The embeds that Encode makes of `number` pictures."""
    tokens = combine_references(references(embeds.image_tokens, number), mode, weights)
    return InstructEmbeds.of(embeds.adapter, "", tokens)


def alone(embeds: InstructEmbeds, number: int) -> InstructEmbeds:
    """The embeds that Encode makes of the picture with this number."""
    return InstructEmbeds(embeds.adapter, "", references(embeds.image_tokens).map(lambda t: t[number : number + 1]))


def runs_apart(batch: torch.Tensor, model_of) -> torch.Tensor:
    """Each latent in a run of its own, on the model for its number."""
    return torch.cat([sample(model_of(n), latent[None]) for n, latent in enumerate(batch)])


# One reference for each latent of a batch


@pytest.mark.parametrize("guidance", MODES)
def test_each_latent_follows_its_reference_as_in_a_run_of_its_own(bare, embeds, batch, guidance):
    found = sample(small_models.applied(bare, combined(embeds, PER_INDEX), guidance=guidance), batch)
    close(found, runs_apart(batch, lambda n: small_models.applied(bare, alone(embeds, n), guidance=guidance)))


@pytest.mark.spread("family", "latents")
@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("latents", [1, 2, 5])
def test_references_begin_again_when_there_are_more_latents(bare, embeds, latents, guidance):
    batch = noise(bare, latents, 8, 12)
    found = sample(small_models.applied(bare, combined(embeds, PER_INDEX), guidance=guidance), batch)
    close(
        found, runs_apart(batch, lambda n: small_models.applied(bare, alone(embeds, n % REFERENCES), guidance=guidance))
    )


@pytest.mark.parametrize("guidance", MODES)
def test_equal_references_for_each_latent_are_one_for_all(bare, embeds, batch, guidance):
    each = InstructEmbeds(embeds.adapter, "", embeds.image_tokens.map(lambda t: t.expand(REFERENCES, -1, -1)))
    close(*(sample(small_models.applied(bare, given, guidance=guidance), batch) for given in (each, embeds)))


def test_an_adapter_for_each_latent_stands_beside_one_for_all(bare, embeds, batch):
    settings = [{"guidance": "simple", "weight": 0.5}, {"guidance": "three-way", "weight": 0.3}]

    def both(first, second):
        return small_models.applied(small_models.applied(bare, first, **settings[0]), second, **settings[1])

    shared = alone(embeds, 1)
    expected = runs_apart(batch, lambda n: both(alone(embeds, n), shared))
    close(sample(both(combined(embeds, PER_INDEX), shared), batch), expected)
    expected = runs_apart(batch, lambda n: both(shared, alone(embeds, n)))
    close(sample(both(shared, combined(embeds, PER_INDEX)), batch), expected)


@pytest.mark.parametrize("guidance", MODES)
def test_in_windows_each_latent_keeps_its_reference_its_weight_and_its_mask(bare, embeds, guidance):
    batch = noise(bare, 5, 8, 12)
    masks = torch.rand(5, 16, 24, generator=torch.Generator().manual_seed(2))
    given, weights = combined(embeds, PER_INDEX), (1.0, 0.25, -0.5, 0.7)
    model = small_models.applied(bare, given, masks, guidance=guidance, batch_factors=weights)
    close(sample(in_parts(model, [3, 0], [4, 2, 1]), batch), sample(model, batch))


# A weight for each latent


@pytest.mark.parametrize("guidance", MODES)
def test_each_latent_has_its_weight_as_in_a_run_of_its_own(bare, embeds, batch, guidance):
    weights = (1.0, 0.25, -0.5)
    found = sample(small_models.applied(bare, embeds, guidance=guidance, weight=0.8, batch_factors=weights), batch)
    close(
        found,
        runs_apart(batch, lambda n: small_models.applied(bare, embeds, guidance=guidance, weight=0.8 * weights[n])),
    )


@pytest.mark.parametrize(
    "embeds_of", [lambda embeds: embeds, lambda embeds: combined(embeds, PER_INDEX)], ids=["one", "each"]
)
def test_weights_begin_again_when_there_are_more_latents(bare, embeds, embeds_of):
    batch, given = noise(bare, 4, 8, 12), embeds_of(embeds)
    found, expected = (
        sample(small_models.applied(bare, given, batch_factors=weights), batch)
        for weights in ((0.2, 0.9), (0.2, 0.9, 0.2, 0.9))
    )
    same(found, expected)


def test_a_weight_of_0_leaves_its_latent_the_bare_models(bare, embeds, batch):
    found = sample(small_models.applied(bare, embeds, guidance="simple", batch_factors=(1.0, 0.0, 0.5)), batch)
    same(found[1], sample(bare, batch)[1])
    assert not torch.allclose(found[::2], sample(bare, batch)[::2], atol=0.05)


def test_a_weight_of_0_in_three_way_guidance_leaves_its_latent_without_the_picture(bare, embeds, batch):
    """And the guidance as it is, to which the other latents' weights fade: not the bare model's."""
    settings = {"guidance": "three-way", "instruct_scale": 3.0}
    found = sample(small_models.applied(bare, embeds, batch_factors=(1.0, 0.0, 0.5), **settings), batch)
    same(found[1], sample(small_models.applied(bare, embeds, torch.zeros(1, 16, 24), **settings), batch)[1])
    close(found[1], sample(small_models.applied(bare, embeds, batch_factors=(1.0, 1e-5, 0.5), **settings), batch)[1])


@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("weights", [(0.0,), (0.0, 0.0)])
def test_weights_of_nothing_but_0_are_the_bare_model(bare, embeds, batch, guidance, weights):
    same(
        sample(small_models.applied(bare, embeds, guidance=guidance, batch_factors=weights), batch), sample(bare, batch)
    )


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 1.0, 1.0)])
def test_weights_of_1_are_none(bare, embeds, batch, weights):
    same(
        sample(small_models.applied(bare, embeds, batch_factors=weights), batch),
        sample(small_models.applied(bare, embeds), batch),
    )


def test_a_weight_alike_for_all_latents_is_applys(bare, embeds, batch):
    found = sample(small_models.applied(bare, embeds, guidance="three-way", weight=0.8, batch_factors=(0.5,)), batch)
    same(found, sample(small_models.applied(bare, embeds, guidance="three-way", weight=0.4), batch))


# A weight for each picture


@pytest.mark.parametrize("mode", [CONCAT, AVERAGE, PER_INDEX])
def test_picture_weights_of_1_are_none(bare, embeds, batch, mode):
    found, expected = (
        sample(small_models.applied(bare, combined(embeds, mode, weights)), batch)
        for weights in ((1.0,) * REFERENCES, ())
    )
    same(found, expected)


@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("mode", [CONCAT, AVERAGE])
def test_a_picture_of_weight_0_is_left_out(bare, embeds, mode, guidance):
    found = small_models.applied(bare, combined(embeds, mode, (1.0, 0.4, 0.0)), guidance=guidance)
    same(sample(found), sample(small_models.applied(bare, combined(embeds, mode, (1.0, 0.4), 2), guidance=guidance)))


@pytest.mark.parametrize("guidance", MODES)
def test_a_single_pictures_weight_multiplies_applys(bare, embeds, guidance):
    weighted = small_models.applied(bare, combined(embeds, CONCAT, (0.5,), 1), weight=0.8, guidance=guidance)
    close(sample(weighted), sample(small_models.applied(bare, embeds, weight=0.4, guidance=guidance)))


@pytest.mark.parametrize("guidance", MODES)
def test_weights_of_pictures_and_of_latents_multiply(bare, embeds, batch, guidance):
    pictures, latents = (1.0, 0.5, 2.0), (0.3, 1.5)
    given = combined(embeds, PER_INDEX, pictures)
    found = sample(small_models.applied(bare, given, guidance=guidance, weight=0.6, batch_factors=latents), batch)
    weights = [0.6 * pictures[n] * latents[n % 2] for n in range(REFERENCES)]
    close(
        found,
        runs_apart(batch, lambda n: small_models.applied(bare, alone(embeds, n), guidance=guidance, weight=weights[n])),
    )


def test_a_picture_of_weight_0_for_a_latent_leaves_it_the_bare_models(bare, embeds, batch):
    found = sample(small_models.applied(bare, combined(embeds, PER_INDEX, (1.0, 0.0, 1.0)), guidance="simple"), batch)
    same(found[1], sample(bare, batch)[1])


@pytest.mark.parametrize("guidance", MODES)
def test_weights_of_tokens_differ_from_latent_to_latent(bare, embeds, batch, guidance):
    weights = torch.rand(REFERENCES, 16, generator=torch.Generator().manual_seed(4))
    together = InstructEmbeds(embeds.adapter, "", references(embeds.image_tokens), weights)

    def model_of(n):
        given = InstructEmbeds(embeds.adapter, "", alone(embeds, n).image_tokens, weights[n : n + 1])
        return small_models.applied(bare, given, guidance=guidance)

    close(sample(small_models.applied(bare, together, guidance=guidance), batch), runs_apart(batch, model_of))
