"""Runs of the host's own sampler nodes on a scene's model, and the comparison of its two forms."""

from __future__ import annotations

import torch
from comfy_extras import nodes_custom_sampler as custom

import nodes as host_nodes
from support.host_node import host_node
from support.sampling.scenes import OracleForm, PackForm, Scene, text
from support.sampling.short_runs import close

STEPS, CFG, SEED = 2, 4.0, 3


def latent(form, batch: int = 1, size: tuple[int, int] = (8, 12)) -> dict:
    channels = form.model.model.latent_format.latent_channels
    return {"samples": torch.zeros(batch, channels, *size)}


def check(run, scene: Scene, **options) -> None:
    """`run(form)` gives the same latent for the pack's form of the scene and for the oracle's."""
    found, expected = run(PackForm(scene), **options), run(OracleForm(scene), **options)
    assert expected.isfinite().all() and expected.std() > 0.1
    close(found, expected)


def pair(form, **values) -> tuple[list, list]:
    return form.conditions("positive", **values), form.conditions("negative", **values)


def pair_with_area(form, area: tuple[int, int, int, int] = (4, 6, 2, 3)) -> tuple[list, list]:
    """With a second positive for a part of the latent: height, width, top, left."""
    own, second = {"area": area, "strength": 1.0}, text("second", form.scene.family)
    positive = form.conditions("positive") + form.conditions("positive", second, **own)
    negative = form.conditions("negative")
    if isinstance(form, OracleForm):  # the host copies a negative for the area; here it needs other terms
        negative += form.conditions("negative", positives=[second], **own)
    return positive, negative


def one_step_over_areas(model, family: str, latents: torch.Tensor, *areas: tuple[int, int, int, int] | None) -> None:
    """One step with a prompt for each part of the latent, (height, width, top, left), or for all of it (None)."""
    positive = []
    for number, area in enumerate(areas):
        own = text(f"area {number}", family)
        positive.append([own.context, {**own.values, **({"area": area, "strength": 1.0} if area else {})}])
    negative = text("negative", family)
    conds = positive, [[negative.context, negative.values]]
    host_nodes.KSampler().sample(model, SEED, 1, CFG, "euler", "normal", *conds, {"samples": latents}, 1.0)


def sampled(output) -> torch.Tensor:
    return output[0]["samples"]


def ksampler(form, model=None, cfg: float = CFG, batch: int = 1, conds=None, sampler: str = "euler", size=(8, 12)):
    positive, negative = conds or pair(form)
    model, start = model or form.model, latent(form, batch, size)
    return sampled(
        host_nodes.KSampler().sample(model, SEED, STEPS, cfg, sampler, "normal", positive, negative, start, 1.0)
    )


def custom_advanced(form, guider) -> torch.Tensor:
    sigmas = host_node(custom.BasicScheduler, form.model, "normal", STEPS, 1.0)[0]
    sampler = host_node(custom.KSamplerSelect, "euler")[0]
    noise = host_node(custom.RandomNoise, SEED)[0]
    return sampled(host_node(custom.SamplerCustomAdvanced, noise, guider[0], sampler, sigmas, latent(form)))
