"""Stand-ins for what ComfyUI's newer nodes load: its own classes with random weights, in the published sizes.

Run by itself, with the python of that ComfyUI: newer_models.py MODELS_FOLDER FILE.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import torch  # noqa: E402
from comfyhost.in_process import import_comfyui  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

RING = 36  # landmarks around the face
CENTRE, RADIUS = 96, 60  # of that ring, in the crop of 192 pixels that the landmarks are found in
PARTS = ("face_oval", "lips", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow", "irises", "nose")


def birefnet() -> dict[str, Tensor]:
    from comfy.background_removal.birefnet import BiRefNet

    return BiRefNet(dtype=torch.float16, operations=nn).state_dict()


def landmarker() -> dict[str, Tensor]:
    """A detector that sees a face everywhere, about half as wide as the picture, and landmarks on a ring in it."""
    from comfy_extras.mediapipe.face_landmarker import FaceLandmarker

    tensors = {}
    for variant in ("short", "full"):
        model = FaceLandmarker(detector_variant=variant)
        for name, module in model.detector.named_modules():
            if name.startswith(("cls_16", "cls_8", "cls_dw")):
                nn.init.constant_(module.bias, 5)
            if name.startswith(("reg_16", "reg_8", "reg_dw")):
                module.bias.data.view(-1, 16)[:, 2:4] += 64  # a box's width and height
        tensors |= {f"detector_{variant}.{name}": value for name, value in model.detector.state_dict().items()}
    angles = torch.arange(model.mesh.NUM_LANDMARKS) * 2 * math.pi / RING
    points = torch.stack([angles.cos() * RADIUS + CENTRE, angles.sin() * RADIUS + CENTRE, torch.randn_like(angles)], -1)
    model.mesh.head_landmarks.bias.data = points.flatten()
    shared = {f"mesh.{name}": value for name, value in model.mesh.state_dict().items()}
    shared |= {f"blendshapes.{name}": value for name, value in model.blendshapes.state_dict().items()}
    ring = torch.stack([torch.arange(RING), (torch.arange(RING) + 1) % RING], -1).int()
    geometry = {
        "canonical_vertices": points.clone(),
        "procrustes_indices": ring[:, 0].clone(),
        "procrustes_weights": torch.ones(RING),
    }
    return {**tensors, **shared, **geometry, **{f"topology.{part}": ring.clone() for part in PARTS}}


def sam() -> dict[str, Tensor]:
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.sam3.detector import SAM3Model
    from comfy.text_encoders.sam3_clip import SAM3_CLIP_CONFIG

    settings = {"dtype": torch.float16, "device": "cpu", "operations": nn}
    texts = CLIPTextModel(SAM3_CLIP_CONFIG, **settings).state_dict()
    prefix = "detector.backbone.language_backbone.sam3_clip.transformer."
    found = SAM3Model(**settings, image_model="SAM31").state_dict()
    return found | {prefix + name: value for name, value in texts.items()}


MODELS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "background_removal/birefnet.safetensors": birefnet,
    "detection/mediapipe_face_fp32.safetensors": landmarker,
    "checkpoints/sam3.1_multiplex_fp16.safetensors": sam,
}

if __name__ == "__main__":
    folder, file = sys.argv[1:]
    import_comfyui()
    torch.manual_seed(0)
    save_file({name: tensor.contiguous() for name, tensor in MODELS[file]().items()}, Path(folder) / file)
