"""Random situations, for hypothesis. The first of every choice is the plainest, which failures shrink to.

What acts on some latents, places or moments only is drawn often: laws of it need two such things at once.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.samplers
from hypothesis import assume, event
from hypothesis import strategies as st

from support.published.layer_weights import BY_PLACE, COUNTS, PUBLISHED
from support.situations.acting import AUTO
from support.situations.other_nodes import BESIDE
from support.situations.prompts import Prompt
from support.situations.situation import BASIC, CFG_GUIDER, KSAMPLER, Images, Layers, Link, Mask, Schedule, Situation

# Its steps depend on the last digits of its own error estimate.
SAMPLERS = [name for name in comfy.samplers.SAMPLER_NAMES if name != "dpm_adaptive"]
SCALINGS = ("V only", "K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty")

# Height and width. The small UNets cannot normalise a single position, which is left of 8 or fewer on both sides.
sizes = st.tuples(st.integers(9, 18), st.integers(-2, 18), st.booleans()).map(
    lambda s: (s[0], max(s[1], 1)) if s[2] else (max(s[1], 1), s[0])
)
rarely, often = (st.integers(0, last).map(lambda n, last=last: n == last) for last in (3, 1))
# Of steps' boundaries too, where float32 and float64 may differ.
fractions = (
    st.sampled_from((0.0, 1.0, 0.5, 0.25, 0.35, 0.75, 0.999, 0.001))
    | st.integers(0, 1000).map(lambda n: n / 1000)
    | st.sampled_from((2, 3, 5)).flatmap(lambda steps: st.integers(1, steps - 1).map(lambda n: n / steps))
)


def hundredths(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(100 * low), round(100 * high)).map(lambda n: n / 100)


factors = st.sampled_from((1.0, 0.0, 0.5, -0.5)) | hundredths(-1, 1.5)
scales = st.sampled_from((1.0, 2.0, 0.5, 4.0, 0.0)) | hundredths(0, 6)


def sometimes(strategy: st.SearchStrategy, nothing=None, when=rarely) -> st.SearchStrategy:
    return when.flatmap(lambda wanted: strategy if wanted else st.just(nothing))


@st.composite
def images(draw) -> Images:
    numbers = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    mode = draw(st.sampled_from(("concat", "average", "one per batch index")))
    weights = draw(sometimes(st.tuples(*[factors] * len(numbers)), ()))
    if weights and mode == "average" and abs(sum(weights)) < 0.2:
        weights = ()
    return Images(numbers, mode, weights if any(weights) else ())


masks = st.builds(Mask, st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.booleans())


@st.composite
def schedules(draw) -> Schedule:
    between, along = draw(st.sampled_from(("hold", "linear", "smooth"))), draw(st.sampled_from(("steps", "percent")))
    least = draw(st.sampled_from((1, 2, 2)))
    along = {"percent": "percent of the schedule"}.get(along, along)
    if draw(st.booleans()):
        return Schedule(tuple(draw(st.lists(factors, min_size=least, max_size=4))), between, along)
    places = sorted(draw(st.lists(fractions, min_size=least, max_size=4, unique=True)))
    return Schedule(tuple((place, draw(factors)) for place in places), between, along)


@st.composite
def layers(draw, family: str) -> Layers:
    types = [*BY_PLACE, *PUBLISHED.get(family, ())]
    scaling = draw(st.sampled_from(SCALINGS if family != "sd3" else SCALINGS[:1]))
    names = st.integers(0, COUNTS[family] - 1).map(str)
    if family == "sdxl":
        names = names | names.map(lambda name: f"{name}.0")
    own = draw(sometimes(st.dictionaries(names, factors, min_size=1, max_size=4), {}))
    return Layers(draw(st.sampled_from(types)), tuple(own.items()), scaling)


@st.composite
def links(draw, family: str) -> Link:
    start, end = sorted(draw(sometimes(st.tuples(fractions, fractions), (0.0, 1.0))))
    return Link(
        images=draw(images()),
        then=draw(sometimes(st.tuples(images(), fractions))),
        instruction=draw(st.sampled_from(tuple(AUTO))),
        weight=draw(st.sampled_from((0.8, 0.2, 1.0, 0.0, -0.5)) | hundredths(-1, 1.5)),
        guidance=draw(st.sampled_from(("three-way", "simple", "auto"))),
        instruct_scale=draw(scales),
        image_scale=draw(scales),
        start=start,
        end=end,
        mask=draw(sometimes(masks, when=often)),
        batch_factors=tuple(draw(sometimes(st.lists(factors, min_size=1, max_size=4), [], often))),
        schedule=draw(sometimes(schedules(), when=often)),
        layers=draw(sometimes(layers(family))),
        three_way_until=draw(sometimes(fractions, 1.0)),
    )


@st.composite
def prompts(draw, height: int, width: int) -> tuple[Prompt, ...]:
    """Two, which leave no place and no moment without one."""
    mask = Mask(1, height, width, draw(st.booleans())).tensor()
    at, lora = draw(fractions), draw(st.sampled_from((0.0, 0.7, -0.7)))
    one, two = Prompt("one"), Prompt("another")
    return draw(
        st.sampled_from(
            (
                (replace(one, span=(0.0, at)), replace(two, span=(at, 1.0))),
                (replace(one, mask=mask, lora=lora), replace(two, mask=1 - mask)),
                (one, replace(two, mask=mask, strength=0.6, lora=lora)),
                (replace(one, mask=mask, span=(0.0, at)), replace(two, is_default=True)),
                (one, replace(one, mask=mask)),
            )
        )
    )


SETTINGS = ("mask", "schedule", "layers", "then", "batch_factors")


@st.composite
def situations(draw, family: str, **fixed) -> Situation:
    """Not the plainest, with which hypothesis begins: all other tests sample it."""
    height, width = draw(sizes)
    drawn = {
        "links": tuple(draw(st.lists(links(family), min_size=1, max_size=3))),
        "batch": draw(st.integers(1, 3)),
        "height": height,
        "width": width,
        "sampler": draw(st.sampled_from(SAMPLERS)),
        "scheduler": draw(st.sampled_from(comfy.samplers.SCHEDULER_NAMES)),
        "steps": draw(st.sampled_from((1, 2, 3, 3, 5))),
        "cfg": draw(st.sampled_from((4.0, 1.0, 2.0)) | hundredths(0, 7)),
        "denoise": draw(sometimes(hundredths(0.3, 1), 1.0)),
        "seed": draw(st.integers(0, 2**32)),
        "through": draw(st.sampled_from((KSAMPLER, KSAMPLER, CFG_GUIDER, BASIC))),
        "positive_length": draw(sometimes(st.just(154), 77)),
        "prompts": draw(sometimes(prompts(height, width), ())),
        "rising": draw(rarely),
        "beside": draw(sometimes(st.sampled_from(tuple(BESIDE)), "")),
    }
    # A flow's latents are infinite at its top, and further steps up make much of rounding.
    drawn |= {"sampler": "euler", "denoise": 0.7, "steps": 2} if drawn["rising"] else {}
    situation = Situation(family, **{**drawn, **fixed})
    assume(not (situation.cfg == 1 and situation.beside == "perturbed attention"))  # has a test of its own
    assume(situation.steps > 1 or situation.scheduler != "kl_optimal")  # which then divides 0 by 0
    assume(len(situation.links) > 1 or any(getattr(situation.links[0], name) for name in SETTINGS))
    note(situation)
    return situation


@st.composite
def parts(draw, batch: int) -> list[list[int]]:
    """The latents of a batch in any order, in two parts or one."""
    order, at = draw(st.permutations(range(batch))), draw(st.integers(0, batch - 1))
    return [part for part in (list(order[:at]), list(order[at:])) if part]


def note(situation: Situation) -> None:
    """For --hypothesis-show-statistics: how often what is combined occurs."""
    event(f"links: {len(situation.links)}")
    event(f"through: {situation.through}")
    event(f"batch: {situation.batch}")
    event(f"guidance: {' '.join(sorted({link.guidance for link in situation.links}))}")
    event(f"prompts: {len(situation.prompts)}")
    event(f"rising: {situation.rising}")
    event(f"beside: {situation.beside or 'nothing'}")
    event(f"cfg 1: {situation.cfg == 1}")
    event(f"one row or column: {1 in (situation.height, situation.width)}")
    for link in situation.links:
        event(f"references: {len(link.images.numbers)} {link.images.mode}")
        for name in SETTINGS:
            if getattr(link, name):
                event(f"with {name}")
        if link.start > 0 or link.end < 1:
            event("with a window")
        if link.mask and link.guidance == "three-way" and (link.schedule or link.layers):
            event("three-way with a mask and a schedule or layers")
