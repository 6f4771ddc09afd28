"""A custom node pack that goes wrong in the middle of a step, for a server that tests start."""

from __future__ import annotations

import time

import comfy.model_management as mm
import torch

OUT_OF_MEMORY, INTERRUPTED = "out of memory", "interrupted"
PATIENCE = 120  # seconds until a step that waits to be interrupted goes on


class Fault:
    """In the second step, half through the UNet: raises as torch does, or waits there until it is interrupted."""

    def __init__(self, kind: str):
        self.kind = kind
        self.steps: list[float] = []

    def __call__(self, q, context, value, options: dict):
        level = float(options["sigmas"][0])
        if level not in self.steps:
            self.steps.append(level)
        if len(self.steps) == 2 and options["block"][0] == "output":
            self.happen()
        return q, context, value

    def happen(self) -> None:
        if self.kind == OUT_OF_MEMORY:
            raise torch.OutOfMemoryError("Allocation on device of a test")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            mm.throw_exception_if_processing_interrupted()
            time.sleep(0.01)


class TestFault:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patched", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"model": ("MODEL",), "fault": ((OUT_OF_MEMORY, INTERRUPTED),)}}

    def patched(self, model, fault: str):
        model = model.clone()
        model.set_model_attn1_patch(Fault(fault))
        return (model,)


NODE_CLASS_MAPPINGS = {"TestFault": TestFault}
