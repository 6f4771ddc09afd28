"""Other nodes in a drawn situation: what each does to a model, the pack's and the oracle's alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import comfy.model_management
from comfy.context_windows import IndexListContextHandler
from comfy_extras import nodes_pag
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from torch import nn

from support.host_node import host_node
from support.other_nodes.with_other_node import changed_call, chunk_by_chunk, copying_its_options, with_function_wrapper


class Handler(IndexListContextHandler):
    """ComfyUI's own, but for a line of 0.3.75 that fails for more than one latent and that later versions mended."""

    def set_step(self, timestep, model_options):
        super().set_step(timestep[:1], model_options)


def context_windows(model):
    """Two latents each, which overlap; a newer host puts the one before into each, too."""
    takes = inspect.signature(ContextWindowsManualNode.execute).parameters
    newer = {"freenoise": False} if "freenoise" in takes else {}
    model = host_node(ContextWindowsManualNode, model, 2, 1, "standard_static", 1, False, "pyramid", 0, **newer)[0]
    model.model_options["context_handler"].__class__ = Handler
    return model


class Weaker(nn.Module):
    """A module of another pack in the place of one of the model's."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.inner = [module]

    def forward(self, *args, **kwargs):
        return 0.9 * self.inner[0](*args, **kwargs)


def place_of(model, attention: int) -> str:
    """A UNet's self- (1) or cross-attention (2); an MMDiT's output projection, or a whole block."""
    if hasattr(model.model.diffusion_model, "joint_blocks"):
        return "diffusion_model.joint_blocks.0" + (".x_block.attn.proj" if attention == 1 else "")
    return f"diffusion_model.middle_block.1.transformer_blocks.0.attn{attention}"


def with_a_module_of_another(model, attention: int = 1):
    model, place = model.clone(), place_of(model, attention)
    model.add_object_patch(place, Weaker(model.get_model_object(place)))
    return model


def beside_another_clones_module(model):
    """The model, with another clone loaded before it, whose module leaves no way in."""
    comfy.model_management.load_models_gpu([with_a_module_of_another(model, 2)])
    return model


BESIDE: dict[str, Callable] = {
    "": lambda model: model,
    "a changed call": with_function_wrapper(changed_call),
    "a call for each chunk": with_function_wrapper(chunk_by_chunk),
    "a call with copied options": with_function_wrapper(copying_its_options),
    "perturbed attention": lambda model: host_node(nodes_pag.PerturbedAttentionGuidance, model, 2.0)[0],
    "context windows": context_windows,
    "a module of another pack": with_a_module_of_another,
    "another clone's module": beside_another_clones_module,
}
