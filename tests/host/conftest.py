"""ComfyUI is importable for every test here, which runs as ComfyUI runs its nodes: in inference mode."""

import pytest
import torch
from support import imported_comfyui  # noqa: F401


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture
def places(tmp_path, monkeypatch):
    """ComfyUI's output and input folders, empty."""
    import folder_paths  # there since `host`

    for kind in ("output", "input"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    return tmp_path
