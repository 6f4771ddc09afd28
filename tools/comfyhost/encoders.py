"""The parts beside the denoiser, of ComfyUI's classes: CLIP's text towers, its ViT-H image tower, and a tiny VAE."""

import torch

from comfyhost.in_process import import_comfyui
from comfyhost.weights import Blueprint, described

HEAD = 64


def clip_l_text() -> Blueprint:
    return clip_text(width=768, layers=12)


def clip_g_text(width: int = 1280, layers: int = 32) -> Blueprint:
    """CLIP-G's text tower in transformers' names, as SD3 checkpoints hold it."""
    return clip_tower("CLIPTextModel", width, layers, max_position_embeddings=77, eos_token_id=49407)


def clip_text(width: int, layers: int) -> Blueprint:
    """A text tower in transformers' names, without a projection."""
    parts = clip_g_text(width, layers)
    del parts["text_projection.weight"]
    return parts


def open_clip_g_text(width: int = 1280, layers: int = 32) -> Blueprint:
    """CLIP-G's text tower in open_clip's names, as SDXL checkpoints hold it."""
    tower = clip_g_text(width, layers)
    import comfy.diffusers_convert

    tensors = {f"transformer.{name}": torch.empty(weight.shape, device="meta") for name, weight in tower.items()}
    return Blueprint.of(comfy.diffusers_convert.convert_text_enc_state_dict_v20(tensors))


def vit_h(width: int = 1280, layers: int = 32, patches: int = 16 * 16) -> Blueprint:
    """CLIP ViT-H/14's image tower in transformers' names (CLIPVisionModelWithProjection)."""
    sizes = {"image_size": 14 * round(patches**0.5), "patch_size": 14, "num_channels": 3, "projection_dim": 1024}
    parts = clip_tower("CLIPVisionModelProjection", width, layers, model_type="clip_vision_model", **sizes)
    parts.put("vision_model.embeddings.class_embedding", width, spread=1.0)
    parts.put("vision_model.embeddings.position_embedding.weight", patches + 1, width, spread=0.1)
    # What each layer adds is small, so that the sum stays of order one in fp16.
    parts.respread(("self_attn.out_proj.weight", "mlp.fc2.weight"), (2 * layers) ** -0.5)
    return parts


def clip_tower(model: str, width: int, layers: int, **sizes) -> Blueprint:
    import_comfyui()
    import comfy.clip_model
    import comfy.ops

    layer = {"num_attention_heads": width // HEAD, "intermediate_size": 4 * width, "hidden_act": "gelu"}
    settings = {"hidden_size": width, "num_hidden_layers": layers, **layer, **sizes}
    return described(getattr(comfy.clip_model, model), settings, None, "meta", comfy.ops.disable_weight_init)


def taesd(latent: int) -> Blueprint:
    """A tiny VAE (TAESD), whose RGB is drawn around grey: pictures are cut to 0..1 and would else be mostly black."""
    import_comfyui()
    import comfy.taesd.taesd

    parts = described(comfy.taesd.taesd.TAESD, latent_channels=latent)
    parts.respread("taesd_decoder.19.weight", 0.3)
    parts.put("taesd_decoder.19.bias", 3, mean=0.5)
    parts.constant("vae_scale", 1.0)
    parts.constant("vae_shift", 0.0)
    return parts
