"""ComfyUI is importable for every test here."""

import host  # noqa: F401
