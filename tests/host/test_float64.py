"""Each branch and the guided prediction against an independent model in float64 on the CPU, in every precision.

The pack predicts wherever ComfyUI samples. The other model has the same rounded weights, and its image tokens come from
a resampler in float64. So all that is left between them is what the pack, and the device, compute and round.
"""

import functools

import pytest
import torch
from ipadapter_instruct.models.adapter.resampler import Resampler
from ipadapter_instruct.models.guidance.branches import Branches
from support import small_models
from support.golden_cases import golden_case
from support.precisions import PRECISIONS
from support.sampling import short_runs
from support.sampling.oracle_model import OracleAdapter, oracle_model
from support.sampling.scenes import Link, Scene

# With instruct and image scales 0 and 1 the host's cond is `everything`, its uncond `image_only`.
SIMPLE, APART = Link(guidance="simple"), Link(instruct_scale=0.0, image_scale=1.0)
PREDICTIONS = {  # how the adapter is applied, and the guider's cfg
    "full": (SIMPLE, 1.0),
    "uncond": (SIMPLE, 0.0),
    "everything": (APART, 1.0),
    "image_only": (APART, 0.0),
    "guided": (Link(), 4.0),
}
GROWTH = {"guided": 4.0}  # how much the scales may make of the branches' errors


@functools.cache
def exact_tokens(family: str) -> Branches[torch.Tensor]:
    """The golden case's image tokens, computed in float64 on the CPU."""
    case, prefix = golden_case(family), "image_proj."
    weights = {name.removeprefix(prefix): w for name, w in case.adapter_weights.items() if name.startswith(prefix)}
    weights = {name.replace("_big.", "."): w.double() for name, w in weights.items()}
    resampler = Resampler(Resampler.read_sizes(weights)).double()
    resampler.load_state_dict(weights)
    names = ("full", "everything", "image_only", "uncond")
    return Branches(*(resampler(*(x.double() for x in case.features(name))) for name in names))


def exact_model(family: str, rounded: dict[str, torch.Tensor]):
    """The independent model with these weights."""
    adapter = {name: weight.double() for name, weight in golden_case(family).adapter_weights.items()}
    model = oracle_model(family, (OracleAdapter(adapter, Link().weight),), torch.float64)
    model.model.diffusion_model.load_state_dict(rounded)
    return model


def conditionings(scene: Scene) -> tuple[tuple, tuple]:
    """The positive and negative lists for the pack, which are texts, and for the independent model, which are terms."""
    scene.tokens = [exact_tokens(scene.family)]
    own = {"positive": scene.positive, "negative": scene.negative}
    terms = {kind: scene.terms(kind, text, [scene.positive]) for kind, text in own.items()}
    exact = tuple([[text.context, {"terms": terms[kind]}]] for kind, text in own.items())
    return tuple([[text.context, text.values]] for text in own.values()), exact


@pytest.mark.spread("family", "name")
@pytest.mark.parametrize("name", PRECISIONS)
def test_predictions_are_those_of_an_independent_model_in_float64(family, embeds, name, record_property):
    precision, values = PRECISIONS[name], golden_case(family).values
    bare = precision.model(family)
    exact = exact_model(family, bare.model.diffusion_model.state_dict())
    levels = bare.get_model_object("model_sampling")
    sigma, x = short_runs.noise_level_and_input(levels, values["timestep"].float(), values["latent"])
    errors = {}
    for prediction, (link, cfg) in PREDICTIONS.items():
        texts, terms = conditionings(Scene(family, (link,)))
        settings = {name: value for name, value in vars(link).items() if name != "picture"}
        found = short_runs.noise_prediction(small_models.applied(bare, embeds, **settings), texts, cfg, x, sigma)
        expected = short_runs.noise_prediction(exact, terms, cfg, x, sigma)
        errors[prediction] = float((found - expected).abs().max() / expected.abs().max())
        record_property(prediction, errors[prediction])
    assert {p: e for p, e in errors.items() if not e <= precision.computing * GROWTH.get(p, 1.0)} == {}
