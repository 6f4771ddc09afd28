"""ComfyUI is importable for every test here, which runs as ComfyUI runs its nodes: in inference mode."""

import host  # noqa: F401
import pytest
import torch


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield
