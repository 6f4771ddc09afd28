"""The models that an output holds, for which ComfyUI's caches ask it."""

from functools import cached_property

import comfy.model_patcher


class HoldsModels:
    """An output of a node that holds models in the host's care. A class gives its `get_models` or sets its `patcher`.

    An old output with a `patcher` is the first to leave the cache when memory runs short; models that are in use by
    the prompt stay; and an output that is wholly dynamic, whose weights can be given up without it, stays as well.

    Source: ComfyUI 0.33.0, comfy/model_patcher.py: `is_model_patcher_output` and `PromptModelTracker`;
    comfy_execution/caching.py: `all_outputs_dynamic`.
    """

    @cached_property
    def patcher(self) -> comfy.model_patcher.ModelPatcher:
        return self.get_models()[0]

    def get_models(self) -> list[comfy.model_patcher.ModelPatcher]:
        return [self.patcher]

    def is_dynamic(self) -> bool:
        """Return whether ComfyUI moves the weights of all its models in and out while they run."""
        return all(model.is_dynamic() for model in self.get_models())


def managed(module, load_device, offload_device) -> comfy.model_patcher.ModelPatcher:
    """Put a module of the host's layers into its memory management, which is dynamic where the host says so."""
    patcher = vars(comfy.model_patcher).get("CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(module, load_device, offload_device)
