"""Find out which latents a model call holds, where other nodes sample in windows of frames or in tiles.

Axes: C chunks of a call (one a condition), b latents of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CONTEXT_WINDOW = "context_window"
BATCH_DIM = 0


@dataclass(frozen=True)
class WholeLatent:
    """The latent of a sampling run, of which a model call may hold a part.

    latents: how many are in the batch. size: height and width.
    kept: numbers of latents that the host puts into each of its windows, at the place of the same number.
    """

    latents: int
    size: tuple[int, int]
    kept: tuple[int, ...] = ()

    @classmethod
    def of_run(cls, noise: Tensor, latent_image: Tensor | None, model_options: dict) -> "WholeLatent":
        shape = noise.shape if latent_image is None else torch.broadcast_shapes(noise.shape, latent_image.shape)
        kept = getattr(model_options.get("context_handler"), "latent_retain_index_list", ())
        height, width = shape[-2:]
        return cls(shape[0], (height, width), tuple(kept))


def batch_indices_of_call(transformer_options: dict, latents: int, whole: WholeLatent) -> tuple[int, ...] | None:
    """Return the indices in the whole batch of the latents that each chunk of a call holds; None: none are stated.

    latents: how many those are. A window stays in the options when the call that it was for is over, so one beside
    the whole batch counts no more. Raises ValueError for a window that does not fit a part of the batch.

    Source: Kosinkadink/ComfyUI-AnimateDiff-Evolved@d8d163cd, animatediff/sampling.py: `create_exposed_params` (which
    repeats the last step's window) and `evaluate_context_windows`. ComfyUI 0.3.75 and 0.33.0,
    comfy/context_windows.py: `evaluate_context_windows`.
    """
    windows = _windows(transformer_options, whole)
    fitting = next((window for window in windows if len(window) == latents), None)
    if fitting is None and windows and latents != whole.latents:
        raise ValueError(
            f"A call of the model with the context window of {len(windows[0])} latents {windows[0]} was expected; it "
            f"holds {latents} of {whole.latents} latents. Another node changes the windows and does not say so: bypass "
            "that node or the one with the windows, or IPAdapter-Instruct."
        )
    return fitting


def divide_call(
    transformer_options: dict, rows: int, chunks: int, latents: int, whole: WholeLatent, alike: bool = True
) -> tuple[tuple[int, ...], int]:
    """Return the latents that each chunk of a model call holds, and how many tiles of the image the call holds.

    The tiles follow one another, each with all its chunks.
    rows: of the call's input. latents: of the step, where the host does not state the call's.
    alike: whether it does not matter which latents they are.
    Raises ValueError for a call with other rows, of which it is unknown whose they are.

    Source: shiimizu/ComfyUI-TiledDiffusion@1169db00, tiled_diffusion.py: `MultiDiffusion.__call__`.
    """
    fitting = [window for window in _windows(transformer_options, whole) if len(window) * chunks == rows]
    if fitting:
        return fitting[0], 1
    stated = transformer_options["sigmas"].numel()  # the host's own batch has one for each latent, or one for all
    latents = stated if stated > 1 else latents
    batch_indices = batch_indices_of_call(transformer_options, latents, whole)
    if batch_indices is None:
        if latents != whole.latents and not alike:
            raise ValueError(
                f"With masks, references or weights for each latent, calls of the model with all latents were "
                f"expected; one holds {latents} of {whole.latents} latents. Another node calls it with parts of the "
                "batch and does not say which: bypass that node, or give all latents the same."
            )
        batch_indices = tuple(range(latents))
    tiles, rest = divmod(rows, chunks * len(batch_indices))
    if rest or not tiles:
        raise ValueError(
            f"A call of the model with {len(batch_indices)} latent(s) for each of its {chunks} conditions was "
            f"expected; it has {rows} in all. Another node calls it with parts of the batch and does not say which: "
            "bypass that node, or IPAdapter-Instruct."
        )
    return batch_indices, tiles


def is_part_of_image(transformer_options: dict) -> bool:
    """Return whether the host says that a call holds a window along the latent's height or width."""
    return getattr(transformer_options.get(CONTEXT_WINDOW), "dim", BATCH_DIM) > BATCH_DIM


def _windows(options: dict, whole: WholeLatent) -> list[tuple[int, ...]]:
    animatediffs = (options.get("ad_params") or {}).get("sub_idxs")  # None for all of the batch
    windows = [] if animatediffs is None else [tuple(animatediffs)]
    own: Any = options.get(CONTEXT_WINDOW)
    if getattr(own, "dim", None) == BATCH_DIM:  # it may also run along another dimension, such as a video's time
        kept = {"retain_index_list": list(whole.kept)} if whole.kept else {}
        taken = own.get_tensor(torch.arange(whole.latents), **kept)  # from 0.21 on, a frame before its own as well
        windows.append(tuple(taken.tolist()))
    return windows
