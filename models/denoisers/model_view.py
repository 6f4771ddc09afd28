"""A model as one clone of it will have it, whichever clone is loaded at the moment, and the sites in it.

The clones of a ModelPatcher share one model. What the loaded one patches stands in it, and what stood there before is
in backups, which the clones share, too.
Source: ComfyUI 0.3.75 and 0.33.0, comfy/model_patcher.py: `clone`, `patch_model`, `unpatch_model`, `get_key_weight`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

from torch import Tensor, nn

DENOISER = "diffusion_model"
SiteKey = tuple
"""("input", 4, 0) for a UNet's cross-attention, ("double_block", 2) for a joint block."""


@dataclass(frozen=True)
class Site:
    """One attention that image tokens enter: its key in the host's patches_replace, its widths, its block's path."""

    key: SiteKey
    width: int
    context_width: int
    path: str = ""


class ModelView:
    """Reads a ModelPatcher's model, by paths as its `get_model_object` takes them.

    Paths that lead nowhere raise AttributeError.
    """

    def __init__(self, patcher):
        self._patcher, self._before = patcher, {}
        for path, before in patcher.object_patches_backup.items():
            parent, _, name = path.rpartition(".")
            owner = attrgetter(parent)(patcher.model) if parent else patcher.model
            self._before[id(owner), name] = before

    @property
    def title(self) -> str:
        return type(self._patcher.model).__name__

    @property
    def denoiser(self) -> Any:
        return self.at(DENOISER)

    def at(self, path: str) -> Any:
        return self._walk(path, self._patcher.object_patches)

    def before(self, path: str) -> Any:
        """Return what stood at a path before this clone's patches of parts of the denoiser."""
        return self._walk(path, {name: one for name, one in self._patcher.object_patches.items() if "." not in name})

    def entries(self, path: str) -> list[str]:
        """Return the paths of a module list's entries, as `before` finds them; none where there is no list."""
        try:
            return [f"{path}.{number}" for number in range(len(self.before(path)))]
        except (AttributeError, TypeError):
            return []

    def replaced(self, path: str) -> str | None:
        """Return in words the first place on the way to a path where this clone puts what runs otherwise, or None."""
        patches, steps = self._patcher.object_patches, path.split(".")
        for place in (".".join(steps[: count + 1]) for count in range(len(steps))):
            if f"{place}.forward" in patches:
                return f"the function that another node has put at {place}.forward"
            if place in patches:
                below = self._walk(place, {name: one for name, one in patches.items() if name != place})
                if not _run_alike(patches[place], below):
                    return f"the {class_name(patches[place])} that another node has put at {place}"
        return None

    def has_weight(self, name: str) -> bool:
        """True when the host will find a parameter of this name to patch."""
        *steps, last = name.split(".")
        owner = self._patcher.model
        for count, step in enumerate(steps):
            if step not in getattr(owner, "_modules", ()):
                return False
            owner = self.at(".".join(steps[: count + 1]))
        return getattr(owner, "_parameters", {}).get(last) is not None

    def weight(self, path: str) -> Tensor | None:
        """Return a linear layer's weight without LoRAs, or None for one that only the layer itself can read."""
        layer, kept = self.before(path), self._patcher.backup.get(f"{path}.weight")
        weight = layer.weight if kept is None else kept.weight
        if weight is not None and hasattr(layer, "convert_weight"):  # the host's own quantized layers
            weight = layer.convert_weight(weight, inplace=False)
        is_plain = weight is not None and weight.is_floating_point() and tuple(weight.shape) == layer_size(layer)
        return weight if is_plain else None

    def _walk(self, path: str, patches: Mapping[str, Any]) -> Any:
        found, place = self._patcher.model, ""
        for name in path.split("."):
            place = f"{place}.{name}" if place else name
            if place in patches:
                found = patches[place]
            elif (id(found), name) in self._before:
                found = self._before[id(found), name]
            else:
                found = getattr(found, name)
        return found


def class_name(thing: object) -> str:
    return f"{type(thing).__name__} (of {type(thing).__module__})"


def _run_alike(found: object, before: object) -> bool:
    """True when two modules have the same forward; torch.compile's wrapper has that of what it wraps."""
    found, before = (getattr(one, "_orig_mod", one) for one in (found, before))
    own = (getattr(one, "__dict__", {}).get("forward") for one in (found, before))
    forward = getattr(type(found), "forward", None)
    return forward is not None and forward is getattr(type(before), "forward", None) and len({*own}) == 1


def layer_size(layer: nn.Module) -> tuple[int, int]:
    """Return the output and input width, as the layer states them, else as its weight does.

    A weight may be packed (4 bits: half as many bytes, in one column) or not loaded yet.
    Raises ValueError where neither states a size.
    Source: comfyanonymous/ComfyUI_bitsandbytes_NF4@06c84e0 (quant_state) and city96/ComfyUI-GGUF@03842fa
    (tensor_shape); torch's, ComfyUI's and nunchaku's linear layers have out_features and in_features.
    """
    stated = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
    if all(isinstance(width, int) for width in stated):
        return cast(tuple[int, int], stated)
    weight = getattr(layer, "weight", None)
    state = getattr(weight, "quant_state", None) or getattr(layer, "quant_state", None)
    shape = getattr(state, "shape", None) or getattr(weight, "tensor_shape", None)
    if shape is None and weight is not None and weight.is_floating_point():
        shape = weight.shape
    if shape is None or len(shape) != 2:
        stored = "no weight" if weight is None else f"{list(weight.shape)} of {weight.dtype}"
        raise ValueError(
            f"A linear layer that states its size was expected in the model; there is a {type(layer).__name__} (of "
            f"{type(layer).__module__}), which stores {stored}. Connect the model without this quantization."
        )
    return tuple(shape)
