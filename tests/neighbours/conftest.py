"""ComfyUI is importable for every test here, which runs as ComfyUI runs its nodes: in inference mode."""

import pytest
from support import imported_comfyui, small_models  # in this order
from support.other_nodes.with_other_node import order, scene  # noqa: F401

inference_mode = imported_comfyui.inference_mode


@pytest.fixture(scope="module")
def bare():
    return small_models.small_model("sd15")


@pytest.fixture(scope="module")
def embeds():
    return small_models.golden_embeds("sd15")
