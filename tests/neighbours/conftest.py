"""ComfyUI is importable for every test here, which runs as ComfyUI runs its nodes: in inference mode."""

import pytest
import torch
from support import imported_comfyui  # noqa: F401


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield
