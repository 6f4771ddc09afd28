"""Whatever a user may set at once, the latent is what an independent model makes of it; and laws of such situations.

`make properties` runs many more examples than the test suite does. That they notice a broken pack is shown by
`test_properties_notice`.
"""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.situations import hypothesis_strategies
from support.situations.laws import as_the_oracle_says, lawful
from support.situations.situation import applied
from support.small_models import shared_model

FAMILIES = ["sd15", "sdxl", "sd3"]
FEW = max(settings.default.max_examples // 16, 1)  # each takes a second
# From its eleventh example on hypothesis makes four of five out of those before, which are seldom anything new.
FRESH = 10
rounds = pytest.mark.parametrize("_round", range(math.ceil(FEW / FRESH)))
few = settings(max_examples=min(FEW, FRESH))


@rounds
@few
@given(data=st.data())
def test_any_situation_gives_the_latent_of_an_independent_model(family, data, _round):
    as_the_oracle_says(data.draw(hypothesis_strategies.situations(family)))


@rounds
@few
@given(data=st.data())
def test_laws_of_any_situation(family, data, _round):
    situation = data.draw(hypothesis_strategies.situations(family))
    lawful(situation, data.draw(hypothesis_strategies.parts(situation.batch)))


ROUNDING = {torch.float16: 0.01, torch.bfloat16: 0.08}  # of the largest value, as in test_precision


@rounds
@settings(max_examples=max(min(FEW, FRESH) // 3, 1))
@given(data=st.data())
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_half_precision_costs_little_more_than_the_bare_models_rounding(family, dtype, data, _round):
    """The first step alone, with scales that do not make much of rounding."""
    links = data.draw(st.lists(hypothesis_strategies.links(family), min_size=1, max_size=3))
    moderate = tuple(replace(link, instruct_scale=2.0, image_scale=0.5) for link in links)
    fixed = {"links": moderate, "sampler": "euler", "scheduler": "normal", "steps": 1, "cfg": 3.0}
    situation = data.draw(hypothesis_strategies.situations(family, **fixed))

    def error(model_of) -> float:
        found, reference = (situation.sampled(model_of(kept)) for kept in (dtype, torch.float32))
        return float((found - reference).abs().max() / reference.abs().max())

    rounding = error(lambda kept: shared_model(family, kept))
    assume(math.isfinite(rounding))  # else the bare model itself overflows
    assert error(lambda kept: applied(situation, shared_model(family, kept))) < ROUNDING[dtype] + 3 * rounding
