"""The parts beside the denoiser: CLIP's text towers, its ViT-H image tower, and a tiny VAE."""

from __future__ import annotations

from comfyhost.weights import Blueprint

TAESD_WIDTH = 64


def clip_l_text() -> Blueprint:
    """CLIP-L's text tower in transformers' names."""
    return clip_text(width=768, layers=12)


def clip_g_text() -> Blueprint:
    """CLIP-G's text tower in transformers' names, as SD3 checkpoints hold it."""
    parts = clip_text(width=1280, layers=32)
    parts.linear("text_projection", 1280, 1280, bias=False)
    return parts


def clip_text(width: int, layers: int, vocabulary: int = 49408) -> Blueprint:
    parts = Blueprint()
    parts.put("text_model.embeddings.token_embedding.weight", vocabulary, width)
    parts.put("text_model.embeddings.position_embedding.weight", 77, width)
    for layer in range(layers):
        clip_layer(parts, f"text_model.encoder.layers.{layer}.", width)
    parts.norm("text_model.final_layer_norm", width)
    return parts


def open_clip_g_text(width: int = 1280, layers: int = 32, vocabulary: int = 49408) -> Blueprint:
    """CLIP-G's text tower in open_clip's names, as SDXL checkpoints hold it."""
    parts = Blueprint()
    parts.put("token_embedding.weight", vocabulary, width)
    parts.put("positional_embedding", 77, width)
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}."
        parts.put(f"{name}attn.in_proj_weight", 3 * width, width, spread=width**-0.5)
        parts.put(f"{name}attn.in_proj_bias", 3 * width)
        parts.linear(f"{name}attn.out_proj", width, width)
        parts.linear(f"{name}mlp.c_fc", width, 4 * width)
        parts.linear(f"{name}mlp.c_proj", 4 * width, width)
        parts.norm(f"{name}ln_1", width)
        parts.norm(f"{name}ln_2", width)
    parts.norm("ln_final", width)
    parts.put("text_projection", width, width, spread=width**-0.5)
    return parts


def vit_h(width: int = 1280, layers: int = 32, patch: int = 14, patches: int = 16 * 16) -> Blueprint:
    """CLIP ViT-H/14's image tower in transformers' names (CLIPVisionModelWithProjection).

    What each layer adds is drawn smaller by 1 / sqrt(2 * layers), so that the sum stays of order one in fp16.
    """
    parts = Blueprint()
    parts.put("vision_model.embeddings.class_embedding", width, spread=1.0)
    parts.put(
        "vision_model.embeddings.patch_embedding.weight",
        width,
        3,
        patch,
        patch,
        spread=(3 * patch**2) ** -0.5,
    )
    parts.put("vision_model.embeddings.position_embedding.weight", patches + 1, width, spread=0.1)
    parts.norm("vision_model.pre_layrnorm", width)
    for layer in range(layers):
        clip_layer(parts, f"vision_model.encoder.layers.{layer}.", width, gain_out=(2 * layers) ** -0.5)
    parts.norm("vision_model.post_layernorm", width)
    parts.linear("visual_projection", width, 1024, bias=False)
    return parts


def clip_layer(parts: Blueprint, name: str, width: int, gain_out: float = 1.0) -> None:
    """Add one layer of a CLIP tower in transformers' names; `gain_out` scales what it adds to its input."""
    for projection in ("q_proj", "k_proj", "v_proj"):
        parts.linear(f"{name}self_attn.{projection}", width, width)
    parts.linear(f"{name}self_attn.out_proj", width, width, gain=gain_out)
    parts.linear(f"{name}mlp.fc1", width, 4 * width)
    parts.linear(f"{name}mlp.fc2", 4 * width, width, gain=gain_out)
    parts.norm(f"{name}layer_norm1", width)
    parts.norm(f"{name}layer_norm2", width)


def taesd(latent: int) -> Blueprint:
    """A tiny VAE (TAESD). ComfyUI numbers its layers in sequence, those without weights included."""
    parts = Blueprint()
    taesd_encoder(parts, "taesd_encoder.", latent)
    taesd_decoder(parts, "taesd_decoder.", latent)
    parts.constant("vae_scale", 1.0)
    parts.constant("vae_shift", 0.0)
    return parts


def taesd_encoder(parts: Blueprint, name: str, latent: int) -> None:
    """Add layers 0 and 1; three times a halving and three blocks; one to the latent's channels."""
    parts.conv(f"{name}0", 3, TAESD_WIDTH, 3)
    taesd_block(parts, f"{name}1.")
    for halving in (2, 6, 10):
        parts.conv(f"{name}{halving}", TAESD_WIDTH, TAESD_WIDTH, 3, bias=False)
        for block in range(halving + 1, halving + 4):
            taesd_block(parts, f"{name}{block}.")
    parts.conv(f"{name}14", TAESD_WIDTH, latent, 3)


def taesd_decoder(parts: Blueprint, name: str, latent: int) -> None:
    """Add a clamp, 1, a ReLU; three times three blocks, a doubling and a convolution; a block; one to RGB.

    RGB is drawn around grey, since pictures are cut to 0..1 and would else be mostly black.
    """
    parts.conv(f"{name}1", latent, TAESD_WIDTH, 3)
    for first in (3, 8, 13):
        for block in range(first, first + 3):
            taesd_block(parts, f"{name}{block}.")
        parts.conv(f"{name}{first + 4}", TAESD_WIDTH, TAESD_WIDTH, 3, bias=False)
    taesd_block(parts, f"{name}18.")
    parts.conv(f"{name}19", TAESD_WIDTH, 3, 3, gain=0.3)
    parts.put(f"{name}19.bias", 3, mean=0.5)


def taesd_block(parts: Blueprint, name: str) -> None:
    for index in (0, 2, 4):
        parts.conv(f"{name}conv.{index}", TAESD_WIDTH, TAESD_WIDTH, 3)
