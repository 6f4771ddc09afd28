"""Watched sampling runs, and the laws that all shares obey."""

import torch
from ipadapter_instruct.models.attention_maps.record import Watch, watched
from ipadapter_instruct.models.patching.chain import CHAIN

from support.sampling.short_runs import close, sample

TOKENS = 16


def seen(model, latents, **settings) -> Watch:
    """The images that a watch sees while these latents are sampled."""
    model, watch = watched(model)
    sample(model, latents, **settings)
    return watch


def first_block(watch: Watch) -> torch.Tensor:
    """The share in the first of the model's blocks that have one."""
    return next(iter(watch.over_blocks().values()))


def law_abiding(watch: Watch, adapters: int, latents: int) -> None:
    shares = watch.mean()
    assert shares.shape[:2] == (adapters, latents)
    assert shares.min() >= 0 and shares.max() <= 1
    tokens = watch.token_maps()
    assert len(tokens) == adapters
    for own in tokens.values():
        assert own.shape[:2] == (latents, TOKENS)
        close(own.sum(dim=1), torch.ones(latents, *shares.shape[2:]), 1e-5)


def keys_of_sites(model) -> tuple:
    return tuple(model.model_options["transformer_options"][CHAIN].applied[0].layers)
