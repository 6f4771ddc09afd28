"""ComfyUI is importable for every test here."""

from support import imported_comfyui  # noqa: F401
