"""The times at which the links of a situation act, and how strongly, by formulas written out apart from the pack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from support.situations.situation import Images, Link, Schedule, Situation

SAME_PLACE = 1e-6  # a step that begins at a schedule's point has its factor

# instruction -> by family: what `auto` makes of guidance and of the weight.
# Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos.
AUTO = {
    "a dog": {"sd15": ("three-way", 0.0), "sdxl": ("three-way", 0.0), "sd3": ("three-way", 0.0)},
    "use the style": {"sd15": ("simple", 0.0), "sdxl": ("simple", 0.0), "sd3": ("simple", 0.0)},
    "use the face": {"sd15": ("simple", 0.0), "sdxl": ("simple", 0.0), "sd3": ("three-way", 0.0)},
    "use the pose": {"sd15": ("three-way", -0.2), "sdxl": ("three-way", 0.0), "sd3": ("three-way", 0.0)},
}


@dataclass(frozen=True)
class Acting:
    """Pictures of a link in the part of the sampling where they act, with what `auto` chose."""

    link: Link
    images: Images
    weight: float
    three_way: bool
    chosen: bool
    start: float
    end: float
    end_is_exclusive: bool


def keyframes(situation: Situation, link: Link) -> list[Acting]:
    """One, or two where other images take over."""
    guidance, weight, chosen = link.guidance, link.weight, False
    if guidance == "auto":
        guidance, change = AUTO[link.instruction][situation.family]
        weight, chosen = (round(weight + change, 4) if weight else 0.0), True
    parts = [(link.images, 0.0, 1.0)]
    if link.then:
        images, at = link.then
        parts = [part for part in ((link.images, 0.0, at), (images, at, 1.0)) if part[1] < part[2]]
    acting = []
    for images, start, end in parts:
        both = max(start, link.start), min(end, link.end)
        end_is_exclusive = end < 1 and both[1] == end
        acting.append(Acting(link, images, weight, guidance == "three-way", chosen, *both, end_is_exclusive))
    return [one for one in acting if one.start <= one.end]


# Where in the sampling a noise level stands


def place_on_schedule(sampling, sigma: float) -> float:
    """The fraction of the model's noise schedule that is over, from the schedule's own formula turned around."""
    if hasattr(sampling, "shift"):  # SD3's flow: sigma = s t / (1 + (s - 1) t)
        time = sigma / (sampling.shift - (sampling.shift - 1) * sigma)
        return min(max(1 - time, 0.0), 1.0)
    levels = sampling.log_sigmas.double().numpy()
    return 1 - float(np.interp(math.log(sigma), levels, np.arange(len(levels)))) / 999


def place_among_steps(sigmas: Tensor, sigma: float) -> float:
    levels, sign = sigmas.double().numpy(), (1 if sigmas[-1] > sigmas[0] else -1)
    return float(np.interp(sign * sigma, sign * levels, np.arange(len(levels)) / (len(levels) - 1)))


def schedule_factor(schedule: Schedule, place: float, is_past: Callable[[float], bool]) -> float:
    points = schedule.points
    if not isinstance(points[0], tuple):
        points = [(number / len(points), factor) for number, factor in enumerate(points)]
    past = [point for point in points if is_past(point[0])]
    if not past:
        return points[0][1]
    if len(past) == len(points) or schedule.between == "hold":
        return past[-1][1]
    (begin, first), (end, second) = past[-1], points[len(past)]
    share = min(max((place - begin) / (end - begin), 0.0), 1.0)
    if schedule.between == "smooth":
        share = math.sin(math.pi / 2 * share) ** 2
    return (1 - share) * first + share * second


def has_weight(one: Acting) -> bool:
    """Whether any latent and any layer has some; else the model is bare, also of three-way guidance."""
    link, images = one.link, one.images
    own = images.weights if images.mode == "one per batch index" and images.weights else (1.0,)
    factors = link.batch_factors or (1.0,)
    latents = [own[n % len(own)] * factors[n % len(factors)] for n in range(len(own) * len(factors))]
    layers = [factor for _, factor in link.layers.own] if link.layers else []
    return any(latents) and (not layers or any(layers))
