"""Which latents of the batch a model call holds, where other nodes sample in windows of frames or in tiles.

Axes: C chunks of a call (one a condition), b latents of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

CONTEXT_WINDOW = "context_window"
AD_PARAMS = "ad_params"
SIGMAS = "sigmas"
BATCH_DIM = 0


def frames_of_call(transformer_options: dict, latents: int) -> Sequence[int] | None:
    """The indices in the whole batch of the latents that each chunk of a model call holds; None: all, in order.

    latents: how many those are. A window that an earlier call has left behind holds another number of them.

    Source: Kosinkadink/ComfyUI-AnimateDiff-Evolved@466f5636, animatediff/sampling.py: `create_exposed_params` and
    `evaluate_context_windows`. ComfyUI 0.3.75, comfy/context_windows.py: `evaluate_context_windows`.
    """
    for frames in _windows(transformer_options):
        if len(frames) == latents:
            return tuple(frames)
    return None


def divide_call(transformer_options: dict, rows: int, chunks: int, latents: int) -> tuple[tuple[int, ...], int]:
    """The latents that each chunk of a model call holds, and how many tiles of the picture the call holds.

    The tiles follow one another, each with all its chunks.
    rows: of the call's input. latents: of the step, where the host does not state the call's.
    Raises ValueError for a call with other rows, of which it is unknown whose they are.

    Source: shiimizu/ComfyUI-TiledDiffusion@1169db00, tiled_diffusion.py: `MultiDiffusion.__call__`.
    """
    frames = frames_of_call(transformer_options, rows // chunks)
    if frames is None or rows % chunks:
        stated = transformer_options[SIGMAS].numel()  # the host's own batch has one for each latent, or one for all
        latents = stated if stated > 1 else latents
        frames = frames_of_call(transformer_options, latents) or tuple(range(latents))
    tiles, rest = divmod(rows, chunks * len(frames))
    if rest or not tiles:
        raise ValueError(
            f"A call of the model with {len(frames)} latent(s) for each of its {chunks} conditions was expected; it "
            f"has {rows} in all. Another node calls it with parts of the batch and does not say which: bypass that "
            "node, or IPAdapter-Instruct."
        )
    return frames, tiles


def _windows(options: dict) -> list[Sequence[int]]:
    return [frames for frames in (_animatediff_window(options), _host_window(options)) if frames is not None]


def _animatediff_window(options: dict) -> Sequence[int] | None:
    """AnimateDiff-Evolved says of every call which frames it holds, or None for all of them."""
    return (options.get(AD_PARAMS) or {}).get("sub_idxs")


def _host_window(options: dict) -> Sequence[int] | None:
    """ComfyUI's own windows may also run along another dimension of the latent, such as a video's time."""
    window = options.get(CONTEXT_WINDOW)
    return getattr(window, "index_list", None) if getattr(window, "dim", None) == BATCH_DIM else None
