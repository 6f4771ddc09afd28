"""The world's base model: ComfyUI's SD3 class with three joint blocks, 192 wide.

B pictures, C = 16 latent channels of 8 x 8, L text tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from small_world.components import CHANNELS
from small_world.encoders import WIDTH as TEXT_WIDTH
from small_world.in_process import comfy
from small_world.short_texts import Texts

BLOCKS = 3
WIDTH = 64 * BLOCKS
CONTEXT, POOLED = 4096, 2048  # what SD3 is given; CLIP-L fills the first 768 of both
PATCH = 2
PREFIX = "model.diffusion_model."


def sizes(context: int, pooled: int) -> dict:
    """ComfyUI's configuration of the denoiser, as it reads it off the weights."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": context, "out_features": WIDTH}}
    return {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "patch_size": PATCH,
        "depth": BLOCKS,
        "input_size": None,
        "adm_in_channels": pooled,
        "context_embedder_config": embedder,
        "qk_norm": "rms",
        "pos_embed_scaling_factor": None,
        "x_block_self_attn_layers": [],
    }


def new_base(seed: int = 0) -> comfy.model_base.SD3:
    """ComfyUI's SD3 to be trained, in float32: as wide as CLIP-L on the text's side, where the rest would be zeros."""
    config = comfy.supported_models.SD3(sizes(TEXT_WIDTH, TEXT_WIDTH))
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = comfy.ops.disable_weight_init
    base = comfy.model_base.SD3(config, device="cpu")
    draw_weights(base.diffusion_model, seed)
    return base


def draw_weights(denoiser: nn.Module, seed: int) -> None:
    """First weights: every block passes its input on, and the prediction is zero.

    Source: facebookresearch/DiT, models.py, initialize_weights (adaLN-Zero).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in denoiser.named_parameters():
        with torch.no_grad():
            first_weight(name, parameter, generator)


def first_weight(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if "ln_q" in name or "ln_k" in name:
        parameter.fill_(1.0)
    elif parameter.ndim == 1 or "adaLN_modulation" in name or name.startswith("final_layer"):
        parameter.zero_()
    else:
        fan_in = parameter[0].numel()
        parameter.normal_(0.0, math.sqrt(1 / fan_in), generator=generator)


def velocity_loss(
    base: comfy.model_base.SD3, latents: Tensor, texts: Texts, noise: Tensor, sigmas: Tensor, options: dict
) -> Tensor:
    """How far the predicted velocity is from noise - latents, for every picture [B].

    latents and noise [B, 16, 8, 8], as SD3's latent format has them; sigmas [B] in 0..1.
    Source: arXiv 2403.03206 section 2 (rectified flow), in the convention of ComfyUI's CONST.
    """
    level = sigmas[:, None, None, None]
    noisy = level * noise + (1 - level) * latents
    timesteps = base.model_sampling.timestep(sigmas).float()
    predicted = base.diffusion_model(
        noisy, timesteps, context=texts.states, y=texts.pooled, transformer_options=options
    )
    return (predicted.float() - (noise - latents)).square().mean((1, 2, 3))


def widened(weights: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The denoiser's weights at SD3's own widths of text.

    CLIP-L never reaches the new columns. The pooled text's are zero; the context's are drawn like the others, so that
    image tokens, which take the same way in, have all of it.
    """
    wide = dict(weights)
    name, context = "y_embedder.mlp.0.weight", weights["context_embedder.weight"]
    wide[name] = nn.functional.pad(weights[name], (0, POOLED - TEXT_WIDTH))
    rest = torch.randn(WIDTH, CONTEXT - TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    wide["context_embedder.weight"] = torch.cat([context, rest * context.std()], 1)
    return wide
