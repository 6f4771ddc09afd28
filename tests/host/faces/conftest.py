"""A small pack of insightface's models, loaded by the pack and by another one."""

import folder_paths
import pytest
from ipadapter_instruct.models.reference.face_analysis import load_analysis


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """models/insightface with a stand-in for buffalo_l."""
    from support import face_models  # needs onnx

    root = tmp_path_factory.mktemp("insightface")
    face_models.save_pack(root / "models" / "buffalo_l")
    return root


@pytest.fixture(scope="module")
def analysis(packs):
    return load_analysis(packs / "models" / "buffalo_l")


@pytest.fixture(scope="module")
def incumbent(packs):
    """The same models as another pack loads and prepares them."""
    from insightface.app import FaceAnalysis

    loaded = FaceAnalysis(name="buffalo_l", root=str(packs), providers=["CPUExecutionProvider"])
    loaded.prepare(ctx_id=0, det_size=(640, 640))
    return loaded


@pytest.fixture
def places(places, monkeypatch):
    """ComfyUI's models, output and input folders, empty."""
    monkeypatch.setattr(folder_paths, "models_dir", str(places / "models"))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "insightface", raising=False)
    return places
