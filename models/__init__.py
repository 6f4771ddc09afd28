"""What the paper computes: torch, einops and safetensors, nothing of ComfyUI (that is in `patching`)."""
