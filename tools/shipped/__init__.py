"""The workflows in workflows/: described here, written from a running ComfyUI's schema, pictured in its page."""
