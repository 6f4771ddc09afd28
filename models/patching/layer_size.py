"""The size of a linear layer, which its stored weight need not have."""

from __future__ import annotations

from torch import nn


def layer_size(layer: nn.Module) -> tuple[int, int]:
    """Output and input width, as the layer states them, else as its weight does.

    A weight may be packed (4 bits: half as many bytes, in one column) or not loaded yet.
    Raises ValueError where neither states a size.
    Source: comfyanonymous/ComfyUI_bitsandbytes_NF4@06c84e0 (quant_state) and city96/ComfyUI-GGUF@03842fa
    (tensor_shape); torch's, ComfyUI's and nunchaku's linear layers have out_features and in_features.
    """
    stated = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
    if all(isinstance(width, int) for width in stated):
        return stated
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
