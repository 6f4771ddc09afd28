"""Wrappers around calls of the model, as other packs add them."""

from collections.abc import Callable

import torch
from comfy.utils import repeat_to_batch_size


def with_wrapper(kind: str, wrapper: Callable):
    def patch(model):
        model = model.clone()
        model.add_wrapper_with_key(kind, "other pack", wrapper)
        return model

    return patch


def tile_by_tile(apply_model, args):
    """Two tiles of the picture in one call: all chunks of the first, then all chunks of the second.

    What has the latent's dimensions is cut like it, such as the picture that an inpainting model is given.

    Source: shiimizu/ComfyUI-TiledDiffusion@a155b1ba, `MultiDiffusion.__call__`.
    """

    def cut(whole):
        return torch.cat(whole.tensor_split(2, dim=-1))

    tiles, c = cut(args["input"]), dict(args["c"])
    for name, value in c.items():
        if isinstance(value, torch.Tensor):
            c[name] = cut(value) if value.ndim == tiles.ndim else repeat_to_batch_size(value, len(tiles))
    out = apply_model(tiles, repeat_to_batch_size(args["timestep"], len(tiles)), **c)
    return torch.cat(out.chunk(2), dim=-1)
