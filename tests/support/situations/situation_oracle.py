"""The meaning of a situation, computed apart from the pack: row by row, branch by branch, nothing kept or shared.

The model is bare and its texts are the situation's own. Which latent and which side of the host's two-branch terms a
row is, comes from the host; when, where and how strongly each link acts is written out in `acting` and below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from support import small_models
from support.golden_cases import golden_case
from support.published.layer_weights import V_ONLY, on_negative, published_factor, scaled_attention
from support.sampling.oracle_model import INJECTIONS, OracleAdapter, Place, around
from support.sampling.scenes import Text, text
from support.situations.acting import (
    SAME_PLACE,
    Acting,
    has_weight,
    keyframes,
    place_among_steps,
    place_on_schedule,
    schedule_factor,
)
from support.situations.prompts import has_begun, is_over, weights
from support.situations.situation import BASIC, Images, Link, Mask, Situation, made_up_tokens


@dataclass(frozen=True)
class RowAdapter(OracleAdapter):
    """strength: what is the same everywhere. factor: of a place. weights_of_tokens: [T]. mask: [H, W]."""

    factor: Callable[[Place], float] = None
    scaling: str = V_ONLY
    weights_of_tokens: Tensor | None = None
    mask: Tensor | None = None
    grid: tuple[int, int] = (1, 1)

    def token_values(self, values: Tensor) -> Tensor:
        return values if self.weights_of_tokens is None else values * self.weights_of_tokens[:, None]

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, heads: int, place: Place) -> Tensor:
        weight = self.strength * self.factor(place)
        if weight == 0:
            return torch.zeros_like(q)
        out = scaled_attention(q, keys, values, weight, heads, self.scaling)
        if self.mask is None:
            return out
        here = averaged(self.mask, place.size or self.grid).flatten()
        return out * torch.cat([here.mean().expand(place.text), here])[:, None]


def averaged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask's mean over what each cell of a grid touches."""
    spans = [
        [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
        for length, cells in zip(mask.shape, size, strict=True)
    ]
    return torch.stack([torch.stack([mask[a:b, c:d].mean() for c, d in spans[1]]) for a, b in spans[0]])


def layer_factor(family: str, link: Link, place: Place, moved: bool) -> float:
    """0 at the places that act on the other side."""
    layers = link.layers
    if layers is None:
        return 0.0 if moved else 1.0
    if on_negative(family, layers.weight_type, place.group) != moved:
        return 0.0
    if layers.own:
        own = dict(layers.own)
        return own.get(f"{place.group}.{place.layer}", own.get(str(place.group), 0.0))
    return published_factor(family, layers.weight_type, place.group, place.part)


def tokens_of(family: str, images: Images, branch: str, latent: int) -> tuple[Tensor, Tensor | None, float]:
    """Tokens [1, T, D] for a latent, their own weights [T] or None, and a weight of all of them."""
    weights = images.weights or (1.0,) * len(images.numbers)
    own = [getattr(made_up_tokens(family, number), branch) for number in images.numbers]
    if images.mode == "one per batch index":
        number = latent % len(own)
        return own[number], None, weights[number]
    used = [(tokens, weight) for tokens, weight in zip(own, weights, strict=True) if weight]
    if images.mode == "average":
        return sum(weight * tokens for tokens, weight in used) / sum(weight for _, weight in used), None, 1.0
    tokens = torch.cat([tokens for tokens, _ in used], dim=1)
    if len({weight for _, weight in used}) == 1:  # alike for all tokens: the whole attention's
        return tokens, None, used[0][1]
    return tokens, torch.cat([torch.full((t.shape[1],), w) for t, w in used]), 1.0


def mask_of(mask: Mask | None, latent: int) -> Tensor | None:
    return None if mask is None else mask.tensor()[latent % mask.number]


class SituationOracle(small_models.SmallModel):
    """Evaluates each row of a batch by itself, as so many evaluations of the bare model as its branches need."""

    situation: Situation
    keyframes: Sequence[Acting]
    sigmas: Tensor  # of the run's steps
    alone: bool  # at this step the host asks for the positive alone
    has_negative: bool
    whole: Tensor  # the step's latents
    positive: Text
    branch: str = ""  # all that is asked for, if anything
    copies: int = 1  # of each row: two are rounded in another way than one

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        sides = transformer_options["cond_or_uncond"]
        latents = len(x) // len(sides)
        numbers = [self._number(latent, n % latents) for n, latent in enumerate(x)]
        rows = [
            self._row(x[n : n + 1], t[n : n + 1], sides[n // latents], number, transformer_options)
            for n, number in enumerate(numbers)
        ]
        return torch.cat(rows)

    def _row(self, x, t, side: int, latent: int, options: dict) -> Tensor:
        acting, three_way = self._acting(t[0])
        total = torch.zeros_like(x)
        for branch, coefficient in ({self.branch: 1.0} if self.branch else self.coefficients(t[0], side)).items():
            if coefficient:
                given = [
                    (one, strength, branch if one in three_way else ("full" if branch in CONDITIONAL else "uncond"))
                    for one, strength in acting
                ]
                total += coefficient * self._prediction(x, t, branch, latent, given, options)
        return total

    def _number(self, latent: Tensor, place: int) -> int:
        """The latent of the batch in a row, whatever the host says of it; its place in a call with other latents."""
        return next((number for number, one in enumerate(self.whole) if torch.equal(one, latent)), place)

    def _acting(self, level: Tensor) -> tuple[list, list]:
        """The adapters that act at a noise level, with their strengths; and those of them in three-way guidance."""
        acting = [(one, strength) for one in self.keyframes if (strength := self._strength(one, level))]
        return acting, [one for one, _ in acting if self._is_three_way(one, level)]

    def coefficients(self, level: Tensor, side: int) -> dict[str, float]:
        leading = [one.link for one in self._acting(level)[1] if not (one.chosen and self.alone)]
        if not leading or not self.has_negative:
            return {"uncond" if side else "full": 1.0}
        wi, wim = leading[-1].instruct_scale, leading[-1].image_scale
        if side == 0:
            return {"full": wi, "everything": 1 - wi, "image_only": wim - 1, "uncond": 1 - wim}
        return {"full": wi, "everything": -wi, "image_only": wim, "uncond": 1 - wim}

    def _strength(self, one: Acting, level: Tensor) -> float:
        sampling, sigma = self.model_sampling, float(level)
        if one.start > 0 or one.end < 1:
            is_last = has_begun if one.end_is_exclusive else is_over
            if not has_begun(sampling, level, one.start) or is_last(sampling, level, one.end):
                return 0.0
        if not has_weight(one):
            return 0.0
        schedule = one.link.schedule
        if schedule is None:
            return one.weight
        if schedule.along == "steps":
            place = place_among_steps(self.sigmas, sigma)
            return one.weight * schedule_factor(schedule, place, lambda point: point <= place + SAME_PLACE)
        place = place_on_schedule(sampling, sigma)
        return one.weight * schedule_factor(schedule, place, lambda point: has_begun(sampling, level, point))

    def _is_three_way(self, one: Acting, level: Tensor) -> bool:
        until = one.link.three_way_until
        return one.three_way and (until >= 1 or not has_begun(self.model_sampling, level, until))

    def _prediction(self, x, t, branch: str, latent: int, given: list, options: dict) -> Tensor:
        situation, conditional = self.situation, branch in CONDITIONAL
        text = self.positive if branch == "full" else situation.negative
        pooled = (situation.negative if branch == "uncond" else self.positive).pooled
        adapters, tokens = [], []
        for one, strength, own_branch in given:
            for moved in (False, True):
                if moved and conditional:
                    continue
                adapter, own = self._adapter(one, strength, "full" if moved else own_branch, latent, moved, x)
                adapters.append(adapter)
                tokens.append(own.expand(self.copies, -1, -1))
        self.adapters = tuple(adapters)
        kind, patches = INJECTIONS[self.family](self, tokens)
        others = options.get("patches_replace", {})
        replaced = {**others, kind: {site: around(None, patch) for site, patch in patches.items()}}
        options = {**options, "patches_replace": replaced}
        x, t, context = (torch.cat([rows] * self.copies) for rows in (x, t, text.context))
        more = {} if pooled is None else {"y": torch.cat([pooled] * self.copies)}
        return super()._apply_model(x, t, None, context, None, {**options, "cond_or_uncond": [0]}, **more)[:1]

    def _adapter(self, one: Acting, strength: float, branch: str, latent: int, moved: bool, x: Tensor):
        link, factors = one.link, one.link.batch_factors or (1.0,)
        tokens, weights, weight = tokens_of(self.family, one.images, branch, latent)
        adapter = RowAdapter(
            weights=golden_case(self.family).adapter_weights,
            strength=strength * weight * factors[latent % len(factors)],
            factor=functools.partial(self._factor, link, moved),
            scaling=link.layers.scaling if link.layers else V_ONLY,
            weights_of_tokens=weights,
            mask=mask_of(link.mask, latent),
            grid=((x.shape[-2] + 1) // 2, (x.shape[-1] + 1) // 2),
        )
        return adapter, tokens

    def _factor(self, link: Link, moved: bool, place: Place) -> float:
        return layer_factor(self.family, link, place, moved)


CONDITIONAL = ("full", "everything")


def several_prompts(model: SituationOracle, executor, base, conds: list, x: Tensor, t: Tensor, options: dict) -> list:
    """The host's lists: averages of what they are beside each prompt alone, each of whole branches of the model."""
    prompts, sums, total = model.situation.prompts, [torch.zeros_like(x) for _ in conds], torch.zeros(x.shape[-2:])
    negative = next((own for own in conds[1:] if own is not None), model.guider.conds.get("negative"))
    shares = weights(prompts, tuple(x.shape[-2:]), model.model_sampling, t[0])
    for number, (prompt, share) in enumerate(zip(prompts, shares, strict=True)):
        if share is None:
            continue
        bounds = ("mask", "mask_strength", "strength", "timestep_start", "timestep_end", "default")
        own = {name: value for name, value in conds[0][number].items() if name not in bounds}
        model.positive, found = text(prompt.name, model.family), {}
        for side in (side for side, one in enumerate(conds) if one is not None):
            for branch, coefficient in model.coefficients(t[0], side).items():
                if coefficient and branch not in found:
                    model.branch = branch
                    (found[branch],) = executor(base, [[own] if branch == "full" else negative], x, t, options)
                sums[side] += share * coefficient * found.get(branch, 0)
        total, model.branch = total + share, ""
    return [one / total for one in sums]


@functools.cache
@torch.inference_mode(False)
def oracle_of(family: str):
    return small_models.small_model(family, SituationOracle)


def expected(situation: Situation, copies: int = 1) -> Tensor:
    """The latent that a situation's chain should give. copies: to see what another rounding makes of it."""
    patcher = oracle_of(situation.family).clone()
    model = patcher.model
    model.situation, model.copies, model.has_negative = situation, copies, situation.through != BASIC
    model.positive, model.branch = situation.positive, ""
    model.keyframes = [one for link in situation.links for one in keyframes(situation, link)]

    def run(executor, guider, sigmas, *args, **kwargs):
        model.sigmas, model.guider = sigmas, guider
        return executor(guider, sigmas, *args, **kwargs)

    def predict(executor, x, *args, **kwargs):
        model.whole = x
        return executor(x, *args, **kwargs)

    def step(executor, base, conds, *args):
        model.alone = None in conds
        if not situation.prompts:
            return executor(base, conds, *args)
        return several_prompts(model, executor, base, conds, *args)

    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "oracle", predict)
    patcher.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "oracle", run)
    patcher.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "oracle", step)
    return situation.sampled(patcher)
