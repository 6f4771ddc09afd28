"""ComfyUI is importable for every test here, which runs as ComfyUI runs its nodes: in inference mode.

A test that asks for `family`, `bare` or `embeds` runs for each family; a file about one of them has its own `family`.
"""

import functools

import pytest
from support import imported_comfyui, readable_adapters, small_models  # in this order
from support.node_runs.model_files import folders  # noqa: F401
from support.other_nodes.with_other_node import order, scene  # noqa: F401

inference_mode = imported_comfyui.inference_mode


@pytest.fixture(scope="module", params=small_models.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def bare(family):
    """The family's small model, as it is without an adapter."""
    return small_models.small_model(family)


@pytest.fixture(scope="module")
def embeds(family):
    """One picture with the family's small adapter."""
    return small_models.golden_embeds(family)


@pytest.fixture(scope="module")
def vit_h():
    """A small image encoder of ViT-H's width."""
    return readable_adapters.image_encoder()


@pytest.fixture(scope="module")
def adapter(family):
    """The family's small adapter, for what `vit_h` makes of a picture."""
    return readable_adapters.readable_adapter(family)


@pytest.fixture
def encode(adapter, vit_h):
    """A function that encodes a picture for `adapter`, with other inputs where they are given."""
    return functools.partial(readable_adapters.encode, adapter, vit_h)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """ComfyUI's output and input folders, empty."""
    import folder_paths  # there since `imported_comfyui`

    for kind in ("output", "input"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    return tmp_path
