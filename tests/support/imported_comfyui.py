"""The real ComfyUI, imported into the test process as its server would be; a `conftest.py` imports this first."""

import pytest
import torch
from comfyhost.in_process import import_comfyui
from comfyhost.places import host

COMFYUI = host().comfyui

torch.set_num_threads(1)  # the models are small and the test workers many
import_comfyui(("main.py", "--cpu", "--use-pytorch-cross-attention"))  # the attention of most cards
import comfy.model_management  # noqa: E402, F401


@pytest.fixture(autouse=True)
def inference_mode():
    """Run a test as ComfyUI runs nodes. A conftest.py imports it."""
    with torch.inference_mode():
        yield
