"""A model with the adapter and with what another node does to it, before Apply or after it."""

from __future__ import annotations

from collections.abc import Callable

import small
import torch
from host_samplers import ksampler
from sampling import close
from scenes import Link, OracleForm, PackForm, Scene

CHAINS = {"simple": (Link(guidance="simple"),), "three-way": (Link(),)}
MODES = list(CHAINS)


def unchanged(model):
    return model


def orders(other: Callable, order: str) -> tuple[Callable, Callable]:
    """What is done to a model before Apply and after it."""
    return (other, unchanged) if order == "before" else (unchanged, other)


def agree(scene: Scene, other: Callable, order: str) -> torch.Tensor:
    """The pack and the oracle make the same picture with the other node, and another one without it."""
    prepare, change = orders(other, order)
    found, expected = (
        ksampler(form, change(form.model)) for form in (f(scene, prepare) for f in (PackForm, OracleForm))
    )
    close(found, expected)
    assert not torch.allclose(found, ksampler(PackForm(scene)), atol=0.01)
    return found


def applied_with(other: Callable, order: str, model, embeds, mask=None, **settings):
    prepare, change = orders(other, order)
    return change(small.applied(prepare(model), embeds, mask, **settings))
