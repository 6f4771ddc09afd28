"""ComfyUI is importable here, and every test runs on one thread."""

import pytest
from small_world.components import find_components
from small_world.encoders import text_weights
from small_world.short_texts import ShortTexts
from small_world.storage import save_tensors
from support import imported_comfyui  # noqa: F401
from support.devices.one_thread import one_thread  # noqa: F401


@pytest.fixture(scope="session")
def few_components():
    """Components of a few scenes."""
    return find_components(scenes=80)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoders") / "text.safetensors"
    save_tensors(text_weights(), path, "for tests")
    yield path
    path.unlink()  # 246 MB


@pytest.fixture(scope="session")
def short_texts(text_file):
    return ShortTexts(text_file)
