"""A model with the adapter and with what another node does to it, before Apply or after it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from support import small_models
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import Link, OracleForm, PackForm, Scene
from support.sampling.short_runs import close, same, sample

CHAINS = {"simple": (Link(guidance="simple"),), "three-way": (Link(),)}
MODES = list(CHAINS)


@pytest.fixture(params=CHAINS)
def scene(request) -> Scene:
    """A scene with each guidance. A conftest.py imports it, and `order`."""
    return Scene(links=CHAINS[request.param])


@pytest.fixture(params=["before", "after"])
def order(request) -> str:
    """The place of the other node: before Apply or after it."""
    return request.param


def unchanged(model):
    return model


def orders(other: Callable, order: str) -> tuple[Callable, Callable]:
    """The changes to a model before Apply and after it."""
    return (other, unchanged) if order == "before" else (unchanged, other)


def agree(scene: Scene, other: Callable, order: str, apart: float = 0.01) -> torch.Tensor:
    """The pack and the oracle make the same picture with the other node, and without it one that far apart."""
    found = agreed(scene, *orders(other, order))
    assert not torch.allclose(found, ksampler(PackForm(scene)), atol=apart)
    return found


def agreed(scene: Scene, prepare: Callable, change: Callable) -> torch.Tensor:
    """The picture of a scene on which pack and oracle agree; `prepare` comes before Apply, `change` after it."""
    found, expected = (
        ksampler(form, change(form.model)) for form in (f(scene, prepare) for f in (PackForm, OracleForm))
    )
    close(found, expected)
    return found


def stand_on_both_sides(scene: Scene, first: Callable, second: Callable) -> None:
    """One of another pack's adapters before Apply and one after it act as without the pack, and both of them do."""
    found = agreed(scene, first, second)
    assert not torch.allclose(found, ksampler(PackForm(scene, first)), atol=0.01)


def leave_each_other_alone(bare, embeds, order: str, other: Callable[[float], Callable]) -> None:
    """An adapter of another pack, with a weight: the pack's at weight 0 leaves it as it is, and it at 0 the pack's."""
    both = applied_with(other(0.7), order, bare, embeds, weight=0.0, guidance="three-way")
    same(sample(both), sample(other(0.7)(bare)))
    ours = small_models.applied(bare, embeds, guidance="three-way")
    close(sample(applied_with(other(0.0), order, bare, embeds, guidance="three-way")), sample(ours))


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
    """Call the model with a changed input, and change its output."""
    return 0.9 * apply_model(1.1 * args["input"], args["timestep"], **args["c"])


def copying_its_options(apply_model, args):
    """Change the options of this call alone, as a node does."""
    options = copy.deepcopy(args["c"]["transformer_options"])
    return apply_model(args["input"], args["timestep"], **{**args["c"], "transformer_options": options})


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
