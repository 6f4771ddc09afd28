"""A LoRA for the golden case of SD1.5."""

from __future__ import annotations

import torch


def small_lora() -> dict[str, torch.Tensor]:
    """A rank-2 LoRA, in the usual file's names, on queries and keys of two cross-attentions."""
    made = torch.Generator().manual_seed(1)
    layers = {
        "input_blocks_1_1_transformer_blocks_0_attn2_to_q": (32, 32),
        "input_blocks_1_1_transformer_blocks_0_attn2_to_k": (32, 96),
        "middle_block_1_transformer_blocks_0_attn2_to_q": (128, 128),
    }
    lora = {}
    for name, (out, width) in layers.items():
        lora[f"lora_unet_{name}.lora_up.weight"] = torch.randn(out, 2, generator=made)
        lora[f"lora_unet_{name}.lora_down.weight"] = torch.randn(2, width, generator=made)
        lora[f"lora_unet_{name}.alpha"] = torch.tensor(2.0)
    return lora
