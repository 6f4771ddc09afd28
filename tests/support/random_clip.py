"""CLIPs of transformers' own class with random weights, in widths that ComfyUI knows."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers


def random_clip(vision: dict, text: dict, width: int) -> transformers.CLIPModel:
    """Draw a CLIP whose embeddings differ from picture to picture and from text to text."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 49406, "eos_token_id": 49407, "vocab_size": 49408}
    config = transformers.CLIPConfig(
        text_config={**text, **ids}, vision_config=vision, projection_dim=width, initializer_factor=4.0
    )
    return transformers.CLIPModel(config).eval()


def random_clip_l() -> transformers.CLIPModel:
    """Draw one as wide as ViT-L's, of two layers and for pictures of 28 x 28 pixels."""
    vision = {"hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16, "intermediate_size": 512}
    text = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 256}
    return random_clip({**vision, "image_size": 28, "patch_size": 14, "hidden_act": "quick_gelu"}, text, 96)


def saved(clip: transformers.CLIPModel, folder: Path) -> Path:
    """Write a CLIP; its file."""
    clip.save_pretrained(folder)
    return folder / "model.safetensors"
