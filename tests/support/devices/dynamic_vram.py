"""ComfyUI's dynamic VRAM without a GPU: its own patchers, with their own native memory, beside the CPU."""

from __future__ import annotations

import importlib

import comfy.model_patcher
import pytest

DYNAMIC = getattr(comfy.model_patcher, "ModelPatcherDynamic", None)

needs_dynamic_vram = pytest.mark.skipif(DYNAMIC is None, reason="this ComfyUI has no dynamic VRAM")


def switch_on(monkeypatch) -> None:
    """Let the host's loaders make dynamic patchers, as its main.py does, and on the CPU, where it would not."""
    from comfy_aimdo import control, host_buffer

    assert control.init()
    importlib.reload(host_buffer)  # it looks for the native library when it is imported
    monkeypatch.setattr(DYNAMIC, "__new__", lambda cls, *args, **kwargs: object.__new__(cls))
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", DYNAMIC)


def dynamic(plain, load_again):
    """A dynamic patcher for a plain one's model. load_again: what makes a plain one anew, as a host's loader can."""
    made = DYNAMIC(plain.model, plain.load_device, plain.offload_device)
    made.cached_patcher_init = (lambda disable_dynamic: load_again(), ())
    return made
