"""A model with the adapter and with what another node does to it, before Apply or after it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy.patcher_extension import WrappersMP

from support import small_models
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import Link, OracleForm, PackForm, Scene
from support.sampling.short_runs import close

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
    return change(small_models.applied(prepare(model), embeds, mask, **settings))


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


def with_function_wrapper(wrapper: Callable):
    def patch(model):
        model = model.clone()
        model.set_model_unet_function_wrapper(wrapper)
        return model

    return patch


def changed_call(apply_model, args):
    """Another input, and another output."""
    return 0.9 * apply_model(1.1 * args["input"], args["timestep"], **args["c"])


def chunk_by_chunk(apply_model, args):
    """Each chunk in a call of its own, which is told whose it is."""
    c, count = args["c"], len(args["cond_or_uncond"])
    found = []
    for number in range(count):
        own = {k: v.chunk(count)[number] if isinstance(v, torch.Tensor) else v for k, v in c.items()}
        options = c["transformer_options"]
        own["transformer_options"] = {
            **options,
            **{key: options[key][number : number + 1] for key in ("cond_or_uncond", "uuids")},
        }
        x, t = (args[name].chunk(count)[number] for name in ("input", "timestep"))
        found.append(apply_model(x, t, **own))
    return torch.cat(found)
