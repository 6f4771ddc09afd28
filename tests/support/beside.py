"""A model with the adapter and with what another node does to it, before Apply or after it."""

from __future__ import annotations

from collections.abc import Callable

import small
import torch
from comfy.patcher_extension import WrappersMP
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


def in_parts(model, *parts):
    """A node that samples the latents in windows, and says of each call which ones it holds."""

    def windows(executor, base, conds, x_in, timestep, model_options):
        found = [torch.zeros_like(x_in) for _ in conds]
        for latents in parts:
            options = {**model_options["transformer_options"], "ad_params": {"sub_idxs": latents}}
            own_options = {**model_options, "transformer_options": options}
            part = executor(base, conds, x_in[latents], timestep[latents], own_options)
            for whole, own in zip(found, part, strict=True):
                whole[latents] = own
        return found

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "windows", windows)
    return model
