"""The base model: ComfyUI's SD3 class with four joint blocks, 256 wide.

B pictures, 16 latent channels of 12 x 12, L text tokens.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from drawn_world.autoencoder.components import CHANNELS
from drawn_world.encoders.text import BLANKS, LENGTH, MARK, SIZES
from drawn_world.in_process import comfy

BLOCKS = 4
WIDTH = 64 * BLOCKS
CONTEXT, POOLED = 4096, 2048  # what SD3 is given; the text encoder fills the first of both
FILLED = SIZES.channels + BLANKS  # of the context
PATCH = 2
SENSES = 8  # that a caption has at most
STATES = SENSES + 1 + BLANKS  # of a short text: senses, then zeros, of which the last counts for all padding; blanks
COPIES = LENGTH - SENSES - BLANKS
PREFIX = "model.diffusion_model."


def new_base(seed: int = 0) -> comfy.model_base.SD3:
    """ComfyUI's SD3 to be trained, in float32: as wide on the text's side as is ever filled."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": FILLED, "out_features": WIDTH}}
    sizes = {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "patch_size": PATCH,
        "depth": BLOCKS,
        "input_size": None,
        "adm_in_channels": 1,  # always zero, see `widened`
        "context_embedder_config": embedder,
        "qk_norm": "rms",
        "pos_embed_scaling_factor": None,
        "x_block_self_attn_layers": [],
    }
    config = comfy.supported_models.SD3(sizes)
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = comfy.ops.disable_weight_init
    base = comfy.model_base.SD3(config, device="cpu")
    draw_weights(base.diffusion_model, seed)
    for block in base.diffusion_model.joint_blocks:
        block.forward = partial(block.forward, use_checkpoint=False)
    return base


def draw_weights(denoiser: nn.Module, seed: int) -> None:
    """First weights: every block passes its input on, and the prediction is zero.

    Source: facebookresearch/DiT, models.py, initialize_weights (adaLN-Zero).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "ln_q" in name or "ln_k" in name:
                parameter.fill_(1.0)
            elif parameter.ndim == 1 or "adaLN_modulation" in name or name.startswith("final_layer"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, math.sqrt(1 / parameter[0].numel()), generator=generator)


def velocity_loss(base: comfy.model_base.SD3, latents: Tensor, states: Tensor, noise: Tensor, sigmas: Tensor):
    """How far the predicted velocity is from noise - latents, mean over everything.

    latents and noise [B, 16, 12, 12], as SD3's latent format has them; states [B, L, D]; sigmas [B] in 0..1.
    Source: arXiv 2403.03206 section 2 (rectified flow), in the convention of ComfyUI's CONST.
    """
    level = sigmas[:, None, None, None]
    noisy = level * noise + (1 - level) * latents
    timesteps = base.model_sampling.timestep(sigmas).float()
    pooled = torch.zeros(len(states), 1)
    predicted = base.diffusion_model(noisy, timesteps, context=states, y=pooled, transformer_options=SHORT_TEXTS)
    return (predicted.float() - (noise - latents)).square().mean()


def counting_copies(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
    """SD3's joint attention, text first, in which the token of the padding counts COPIES times.

    For transformer_options' `optimized_attention_override`. q, k, v [B, L + N, D] -> [B, L + N, D].
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    counts = torch.zeros(k.shape[2], dtype=q.dtype, device=q.device)
    counts[SENSES] = math.log(COPIES)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + counts  # faster backwards than torch's own
    return torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2)


SHORT_TEXTS = {"optimized_attention_override": counting_copies}


def widened(weights: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The denoiser's weights at SD3's own widths of text.

    The text encoder never reaches the new columns of the context. They are drawn like the others, so that image tokens,
    which take the same way in, have all of it. The column of the end token's mark is zero: padding says nothing. So are
    the pooled text's columns: the base does not hear it, and all that it is told is in the states, where an adapter's
    tokens lie too.
    """
    wide = dict(weights)
    name, context = "y_embedder.mlp.0.weight", weights["context_embedder.weight"]
    wide[name] = torch.zeros(WIDTH, POOLED)
    rest = torch.randn(WIDTH, CONTEXT - FILLED, generator=torch.Generator().manual_seed(seed))
    wide["context_embedder.weight"] = torch.cat([context, rest * context.std()], 1)
    wide["context_embedder.weight"][:, MARK] = 0.0
    return wide
