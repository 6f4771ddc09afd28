"""Faces found and read in images by insightface, which is imported when it is first used.

The pack is whole without insightface; embeddings saved as files need none.
Axes: B images, H height, W width, C channels.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..messages import LETTERS_SHOWN, called_alike
from .faces import Faces

RELEASES = "https://github.com/deepinsight/insightface/releases"
BUFFALO = "buffalo_l"
# What is needed of the published packs: the detection model and the recognition model.
PACK_FILES = {BUFFALO: ("det_10g.onnx", "w600k_r50.onnx"), "antelopev2": ("scrfd_10g_bnkps.onnx", "glintr100.onnx")}
CPU = "CPU"
PROVIDER = "ExecutionProvider"
PREPARED_SIZE = 640
DETECTION_SIZES = range(PREPARED_SIZE, 255, -64)
CROP_SIZE = 224


@dataclass(frozen=True)
class Device:
    """A device that onnxruntime may run on: its providers, the best first, and the package that brings them."""

    providers: tuple[str, ...]
    package: str = "onnxruntime"


DEVICES = {
    CPU: Device(()),
    "CUDA": Device(("CUDAExecutionProvider",), "onnxruntime-gpu"),
    "ROCm": Device(("MIGraphXExecutionProvider", "ROCMExecutionProvider"), "onnxruntime-migraphx"),
    "DirectML": Device(("DmlExecutionProvider",), "onnxruntime-directml"),
    "OpenVINO": Device(("OpenVINOExecutionProvider",), "onnxruntime-openvino"),
    "CoreML": Device(("CoreMLExecutionProvider",)),
}


@dataclass(frozen=True, eq=False)
class SeenFace:
    """A face in an image.

    embedding: [512], as the recognition model gives it. crop: [224, 224, 3] in 0..1, upright, RGB.
    width, height: of the face in the image, in pixels. detected_at: the side of the square it was detected in.
    """

    embedding: Tensor
    crop: Tensor
    width: float
    height: float
    detected_at: int


def find_packs(roots: Iterable[Path]) -> dict[str, Path]:
    """Return the folders with .onnx files below models/ of each root, by pack name; of one name the first counts.

    An archive that was unpacked into a folder of its own name (antelopev2/antelopev2) is found as well.
    """
    found: dict[str, Path] = {}
    for models in (root / "models" for root in roots):
        for file in sorted((*models.glob("*/*.onnx"), *models.glob("*/*/*.onnx")), key=lambda f: (len(f.parts), f)):
            name, *inner = file.parent.relative_to(models).parts
            if inner in ([], [name]):
                found.setdefault(name, file.parent)
    return found


def pack_names(roots: Iterable[Path]) -> list[str]:
    """Return the packs that can be chosen: the published ones, there or not, then others that are there."""
    return list(dict.fromkeys((*PACK_FILES, *sorted(find_packs(roots)))))


def pack_folder(name: str, roots: Sequence[Path]) -> Path:
    """Return the folder of a pack's files. Raises ValueError, which says where to get it, when they are not there."""
    name = str(name)
    found = find_packs(roots).get(name)
    if found is None:
        get = f"{called_alike(name, pack_names(roots))}Choose another, or put them there"
        if name in PACK_FILES:
            get = f"Get {name}.zip from {RELEASES} (for non-commercial research), unpack it there"
        files = ", ".join(PACK_FILES.get(name, ("its .onnx files",)))
        places = " or ".join(str(root / "models" / name[:LETTERS_SHOWN]) for root in roots)
        raise ValueError(
            f"insightface's models {name[:LETTERS_SHOWN]} ({files}) were expected in {places}; there is no .onnx file. "
            f"{get} and refresh the page (R). Nothing is downloaded by itself. Instruct Load Face needs no models."
        )
    return found


def load_analysis(folder: Path, device: str = CPU) -> Any:
    """Load insightface's FaceAnalysis of the models in `folder`, prepared, on a device of DEVICES or else on the CPU.

    Raises ValueError, which says what to do, without insightface and for models that do not load.
    """
    try:
        import onnxruntime
        from insightface.app import FaceAnalysis
    except Exception as error:  # a package built for another numpy may fail to import in any way
        raise ValueError(
            f"Faces are found by insightface, which cannot be imported here ({type(error).__name__}: {error}). "
            f'Install it for the python that runs ComfyUI: "{sys.executable}" -m pip install insightface onnxruntime '
            "- then start ComfyUI again. Instruct Load Face needs neither of them."
        ) from error
    offered = onnxruntime.get_available_providers()
    providers = [name for name in (*DEVICES[device].providers, CPU + PROVIDER) if name in offered]
    try:
        # A folder that is there, by its full path, is never downloaded.
        analysis = FaceAnalysis(name=str(folder.absolute()), root=str(folder.parent.parent), providers=providers)
        analysis.prepare(ctx_id=0, det_size=(PREPARED_SIZE, PREPARED_SIZE))
    except Exception as error:  # onnxruntime's are of no common kind, and insightface asserts
        files = sorted(folder.glob("*.onnx"))
        found = ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
        raise ValueError(
            f"{folder} was expected to hold insightface's models for detection and recognition; it holds {found}, "
            f"which did not load ({type(error).__name__}: {error}). A file is damaged or missing: get the pack again "
            f"from {RELEASES} and unpack all of it there."
        ) from error
    check_analysis(analysis)
    return analysis


def check_analysis(analysis: Any) -> None:
    """Raises ValueError unless `analysis` detects and recognises faces, whoever has loaded it."""
    models = getattr(analysis, "models", None)
    missing = {"detection", "recognition"} - set(models if isinstance(models, dict) else ())
    if missing:
        raise ValueError(
            "face_analysis was expected to be insightface's FaceAnalysis with a detection and a recognition model; "
            f"{type(analysis).__name__} has no {' and no '.join(sorted(missing))}. Disconnect it "
            f"and choose a model_pack such as {BUFFALO} of {RELEASES}."
        )


def running_on(analysis: Any) -> str:
    """Return the devices that the models run on, as onnxruntime says, such as CUDA, with CPU for what it lacks."""
    used = {model.session.get_providers()[0] for model in analysis.models.values()}
    return ", ".join(sorted(name.removesuffix(PROVIDER) for name in used))


def why_not(device: str) -> str:
    """Say what to do when a device was chosen and the models run on the CPU."""
    import onnxruntime

    if set(DEVICES[device].providers) & set(onnxruntime.get_available_providers()):
        return f"onnxruntime could not start {device}; the console says why."
    return f"This onnxruntime has no {device}: install {DEVICES[device].package} in its place."


def see_faces(analysis: Any, image: Tensor, largest: bool = True) -> list[list[SeenFace]]:
    """Return the faces in each image, the largest first; `largest`: that one alone.

    image: [B, H, W, 3 or 4] in 0..1, finite. Raises ValueError, which says what to try, for images without a face.
    """
    check_analysis(analysis)
    rgb = (image[..., :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    seen = [_see(analysis, bgr, largest) for bgr in rgb.flip(-1).contiguous().numpy()]
    without = [str(number) for number, faces in enumerate(seen, start=1) if not faces]
    if without:
        raise ValueError(
            f"A face was expected in each of the {len(seen)} picture(s); none was found in number "
            f"{', '.join(without)}, at detection sizes from {DETECTION_SIZES[0]} down to {DETECTION_SIZES[-1]}. Try a "
            "photo from the front, upright and sharp, with the whole head and some room around it; pad a picture that "
            "the face fills; or crop around a small face."
        )
    return seen


def faces_of(analysis: Any, seen: Iterable[SeenFace]) -> Faces:
    """Return faces' embeddings. Raises ValueError for a recognition model that does not give 512 usable numbers."""
    file = getattr(analysis.models["recognition"], "model_file", None) or ""
    return Faces(torch.stack([face.embedding for face in seen]), Path(file).name)


def _see(analysis: Any, image: Any, largest: bool) -> list[SeenFace]:
    for size in DETECTION_SIZES:  # a face that fills an image is too large for the detection model at first
        boxes, landmarks = analysis.det_model.detect(image, input_size=(size, size))  # [faces, 5], [faces, 5, 2]
        if len(boxes):
            break
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = (-areas).argsort(kind="stable")[: 1 if largest else None]
    return [_seen(analysis, image, boxes[i], landmarks[i], size) for i in order]


def _seen(analysis: Any, image: Any, box: Any, landmarks: Any, size: int) -> SeenFace:
    from insightface.app.common import Face
    from insightface.utils.face_align import norm_crop

    face = Face(bbox=box[:4], kps=landmarks, det_score=box[4])
    embedding = torch.from_numpy(analysis.models["recognition"].get(image, face)).float()
    crop = torch.from_numpy(norm_crop(image, landmark=landmarks, image_size=CROP_SIZE)).flip(-1) / 255
    left, top, right, bottom = (float(edge) for edge in box[:4])
    return SeenFace(embedding, crop, right - left, bottom - top, size)
