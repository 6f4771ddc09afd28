"""Everything here runs as ComfyUI runs its nodes: in inference mode."""

import pytest
import torch


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield
