"""A model spread over two devices: the CPU, and the one that it plays beside itself (see `played_device`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import comfy.model_management as mm
import comfy.samplers
import torch

from support import small_models
from support.devices.played_device import PLAYED, copies_between_devices
from support.sampling.counting import patch_class

CPU = torch.device("cpu")
SPREAD = "every other list of conditions"
HOST_SPREADS = hasattr(comfy.samplers, "_calc_cond_batch_multigpu")


def play(monkeypatch) -> None:
    """ComfyUI takes both for devices of its own, each with the CPU's memory."""
    free_memory = mm.get_free_memory
    monkeypatch.setattr(mm, "get_free_memory", lambda device=None, *args, **kwargs: free_memory(CPU, *args, **kwargs))
    monkeypatch.setattr(mm, "get_all_torch_devices", lambda *args, **kwargs: [CPU, PLAYED], raising=False)
    if not HOST_SPREADS:
        original = comfy.samplers._calc_cond_batch

        def calc_cond_batch(model, conds, x, timestep, model_options):
            run = model_options.get(SPREAD, original)
            return run(model, conds, x, timestep, model_options)

        monkeypatch.setattr(comfy.samplers, "_calc_cond_batch", calc_cond_batch)


def small_model(family: str):
    """A small model which the host can load once more for another device."""
    model = small_models.small_model(family)
    model.cached_patcher_init = (small_models.small_model, (family,))
    return model


def spread(model):
    """The model as ComfyUI's node MultiGPU CFG Split gives it; by `EveryOther` on a ComfyUI without the node."""
    if HOST_SPREADS:
        from comfy.multigpu import create_multigpu_deepclones

        return create_multigpu_deepclones(model, 2)
    model = model.clone()
    model.model_options[SPREAD] = EveryOther(model.model.family)
    return model


class EveryOther:
    """Runs every other list of conditions on the played device, in its own thread, where the host runs them all."""

    def __init__(self, family: str):
        second = small_models.small_model(family)
        second.model.to(PLAYED)
        second.pre_run()
        self.second = second.model

    def __call__(self, model, conds, x, timestep, model_options):
        def run(model, device: torch.device, lists: list) -> list:
            options = model_options["transformer_options"]
            options = {**options, "sample_sigmas": options["sample_sigmas"].to(device)}
            lists = [own and [_on(device, cond) for cond in own] for own in lists]
            with torch.no_grad():
                inputs = (model, lists, x.to(device), timestep.to(device))
                found = comfy.samplers._calc_cond_batch(*inputs, {"transformer_options": options})
            return [prediction.to(x.device) for prediction in found]

        with ThreadPoolExecutor(2) as threads:
            parts = [
                threads.submit(run, model, CPU, conds[::2]),
                threads.submit(run, self.second, PLAYED, conds[1::2]),
            ]
            predictions = [None] * len(conds)
            predictions[::2], predictions[1::2] = (part.result() for part in parts)
        return predictions

    def __deepcopy__(self, memo: dict) -> EveryOther:
        return self


def _on(device: torch.device, cond: dict) -> dict:
    own = {name: one._copy_with(one.cond.to(device)) for name, one in cond["model_conds"].items()}
    return {**cond, "model_conds": own}


@contextlib.contextmanager
def copies_in_attention(family: str) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of what is copied between the devices inside the pack's attention, until the end."""
    attention = patch_class(family)
    original, shapes = attention.__call__, []

    def call(self, *args, **kwargs):
        with copies_between_devices(shapes):
            return original(self, *args, **kwargs)

    attention.__call__ = call
    try:
        yield shapes
    finally:
        attention.__call__ = original
