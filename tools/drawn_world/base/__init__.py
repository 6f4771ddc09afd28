"""The drawn world's base model, of ComfyUI's SD3 class, and its training."""
