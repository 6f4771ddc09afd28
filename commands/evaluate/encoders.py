"""CLIPs and DINOv2s in files: what turns pictures and texts into embeddings. Nothing is ever downloaded.

Axes: N pictures or texts, L tokens, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...models.messages import short
from .pixels import Preprocessing

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Source: facebook/dinov2-*, preprocessor_config.json
DINO = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HUB = "hf-hub:"


@dataclass(frozen=True)
class Encoder:
    """Gives embeddings. name: the same for the same weights. images, texts: to [N, D], float32; None without such."""

    name: str
    images: Callable[[Sequence[Image]], Tensor] | None = None
    texts: Callable[[Sequence[str]], Tensor] | None = None


def open_clip_encoder(model_name: str, path: Path, device: str) -> Encoder:
    """Return a CLIP that open_clip knows by name, with the weights of a local file. Raises ValueError without it."""
    _check_file(path)
    if model_name.startswith(HUB):
        raise ValueError(f"A name such as ViT-H-14 was expected; {model_name} would be downloaded. Name a local file.")
    import open_clip

    if open_clip.get_model_config(model_name) is None:
        raise ValueError(f"A model of open_clip's was expected; {model_name} is none, as open_clip.list_models() says.")
    try:
        model = open_clip.create_model(model_name, pretrained=str(path), device=device)
        tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # a library's own, of many kinds
        raise ValueError(
            f"{path} was expected to hold the weights of {model_name}; open_clip says: {short(error)} Name its file, "
            "or the model that the file is of."
        ) from error
    model.eval()
    seen = model.visual.preprocess_cfg
    side = seen["size"][0] if isinstance(seen["size"], (tuple, list)) else seen["size"]
    if (seen["interpolation"], seen["resize_mode"]) != ("bicubic", "shortest"):
        raise ValueError(f"{model_name} was expected to resize pictures as CLIP does; it says {seen}. Name another.")
    preprocess = Preprocessing(side, side, tuple(seen["mean"]), tuple(seen["std"]))

    @torch.no_grad()
    def images(pictures: Sequence[Image]) -> Tensor:
        return model.encode_image(preprocess(pictures).to(device)).float().cpu()

    @torch.no_grad()
    def texts(given: Sequence[str]) -> Tensor:
        return model.encode_text(tokenizer(list(given)).to(device)).float().cpu()

    return Encoder(f"open_clip {model_name}, {path.name}", images, texts)


def comfyui_encoder(vision: Path, text: Path) -> Encoder:
    """Return a CLIP of ComfyUI's files: an image encoder's and a text encoder's, which may be one file.

    ComfyUI must be importable. Raises ValueError for files that are none, or of different CLIPs.
    """
    _check_file(vision)
    _check_file(text)
    from ...models.encoding.image_encoder import encode_pixels
    from ...models.encoding.open_clip.towers import load_image_tower

    tower = load_image_tower(vision)
    width = tower.sizes.projection_width
    texts, text_width = _text_tower(text)
    if width != text_width:
        has = f"gives embeddings of {width} numbers" if width else "has no projection"
        raise ValueError(
            f"An image and a text encoder of one CLIP were expected; {vision.name} {has}, and {text.name} gives "
            f"embeddings of {text_width}. Name the two files of one CLIP."
        )
    preprocess = Preprocessing(tower.image_size, tower.image_size, CLIP_MEAN, CLIP_STD)
    name = " and ".join(dict.fromkeys((vision.name, text.name)))
    return Encoder(name, lambda pictures: encode_pixels(tower, preprocess(pictures)).image_embeds.cpu(), texts)


def _text_tower(path: Path) -> tuple[Callable[[Sequence[str]], Tensor], int]:
    """Return a file's text encoder up to its projection, and how wide that is."""
    from ...models.encoding.open_clip.files import TEXT, Tower, find_tower
    from ...models.encoding.open_clip.towers import OpenClipText, sentence_ends
    from ...models.files.tensor_files import read_file

    others = (Tower("ViT-H-14", "ViT-H-14", 1024), Tower("ViT-bigG-14", "ViT-bigG-14", 1280))
    tensors = read_file(path)
    weights = find_tower(tensors, replace(TEXT, towers=(*TEXT.towers, *others)), path.name)
    projection = _text_projection(tensors, weights.tower.width)
    if projection is None:
        raise ValueError(
            f"{path.name} was expected to hold a text encoder with its projection (text_projection); it has none that "
            f"fits {weights.tower.width} numbers. Name the file of a whole CLIP, or of a text encoder that kept it."
        )
    tower = OpenClipText(weights)

    @torch.no_grad()
    def texts(given: Sequence[str]) -> Tensor:
        hidden_states = tower.encode_texts(given).float().cpu()
        return hidden_states[torch.arange(len(given)), sentence_ends(given)] @ projection

    return texts, projection.shape[1]


def _text_projection(tensors: Mapping[str, Tensor], width: int) -> Tensor | None:
    """Return the projection [width, D] of a text encoder of that width. transformers' is transposed."""
    found = {name: x for name, x in tensors.items() if name.endswith(("text_projection", "text_projection.weight"))}
    turned = (x.float().T if name.endswith("weight") else x.float() for name, x in found.items() if x.ndim == 2)
    return next((x for x in turned if x.shape[0] == width), None)


def dino_encoder(path: Path, device: str) -> Encoder:
    """Return a DINOv2: transformers' folder of one, or ComfyUI's file. Raises ValueError for neither."""
    model, preprocess = _dino_folder(path, device) if path.is_dir() else _dino_file(path)

    @torch.no_grad()
    def images(pictures: Sequence[Image]) -> Tensor:
        """Return the class token after the last norm."""
        return model(preprocess(pictures))[0][:, 0].float().cpu()

    return Encoder(f"DINOv2 {path.name}, {preprocess.side} pixels", images)


def _dino_folder(path: Path, device: str) -> tuple[Callable, Preprocessing]:
    import transformers

    try:
        model = transformers.Dinov2Model.from_pretrained(path, local_files_only=True).to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} was expected to be transformers' folder of a DINOv2, with config.json and its weights; "
            f"transformers says: {short(error)}. Name another folder, or ComfyUI's file."
        ) from error
    return lambda pixels: model(pixels.to(device)), DINO


def _dino_file(path: Path) -> tuple[Callable, Preprocessing]:
    _check_file(path)
    import comfy.clip_vision
    import comfy.model_management as mm

    loaded = comfy.clip_vision.load(str(path))
    if loaded is None or "dino" not in type(loaded.model).__module__:
        raise ValueError(f"{path.name} was expected to be a DINOv2 image encoder; it is none. Name another file.")
    mm.load_models_gpu([loaded.patcher])
    side = loaded.image_size  # its positions are not stretched to another
    return lambda pixels: loaded.model(pixels.to(loaded.load_device)), replace(DINO, shorter_side=side, side=side)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"A file was expected at {path}; there is none. Correct the path.")
