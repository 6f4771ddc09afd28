"""ComfyUI's page in a real browser."""
