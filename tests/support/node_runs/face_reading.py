"""Faces read by the node, and by insightface itself."""

import torch
from ipadapter_instruct.nodes.faces.read_face import IPAdapterInstructReadFace

from support.pack_nodes import run_node

READING = {"model_pack": "buffalo_l", "device": "CPU", "which": "largest", "together": "each", "save_as": ""}


def read(analysis, image, **changes):
    return run_node(IPAdapterInstructReadFace, face_analysis=analysis, image=image, **{**READING, **changes})


def bgr(image: torch.Tensor):
    """A picture of a batch of one as a program reads it from a file by cv2."""
    return (image[0] * 255).round().to(torch.uint8).flip(-1).contiguous().numpy()


def directly(loaded, image: torch.Tensor) -> list:
    """insightface's own faces of a picture, the largest first."""
    faces = loaded.get(bgr(image))
    return sorted(faces, key=lambda f: -(f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
