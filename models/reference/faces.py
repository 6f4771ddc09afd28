"""Faces as ArcFace embeddings, which FaceID adapters read, and such embeddings as files.

Axes: N faces. An embedding is 512 numbers.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from ..files.atomic_write import write_whole
from ..files.encoder_files import FACE_WIDTH
from ..files.tensor_files import PACK, check_is_file
from ..messages import short, some

FACE_SUFFIX = ".face.safetensors"
FORMAT = "1"
NAME = "face_embedding"
NAMES = (NAME, "faceid_embeds", "embedding")
NAMES_SHOWN = 5

MAKE_ONE = "Make one of a photo with Instruct Read Face and a name in its save_as."


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces of which nothing but their embeddings is known.

    embeddings: [N, 512], float32, as the recognition model gave them: their lengths vary.
    recognition: the file name of that model, where it is known. Embeddings of different models mean different things.
    Raises ValueError for other shapes, for no face at all, and for an embedding that is zero, NaN or infinite.
    """

    embeddings: Tensor
    recognition: str = ""

    def __post_init__(self):
        if self.embeddings.ndim != 2 or self.embeddings.shape[1] != FACE_WIDTH or not len(self.embeddings):
            raise ValueError(
                f"Face embeddings were expected to be [faces, {FACE_WIDTH}]; they are {list(self.embeddings.shape)}. "
                f"FaceID adapters need a recognition model such as buffalo_l's. {MAKE_ONE}"
            )
        lengths = self.embeddings.norm(dim=-1)
        wrong = int((~(lengths.isfinite() & (lengths > 0))).sum())
        if wrong:
            raise ValueError(
                f"Every face embedding was expected to be {FACE_WIDTH} numbers that are not all zero; {wrong} of "
                f"{len(self.embeddings)} are zero, NaN or infinite. {MAKE_ONE}"
            )

    @property
    def normed(self) -> Tensor:
        """The embeddings [N, 512], every one scaled to length 1."""
        return self.embeddings / self.embeddings.norm(dim=-1, keepdim=True)

    def averaged(self) -> "Faces":
        """Return one face of several photos of one person: the mean of the embeddings as they are."""
        return Faces(self.embeddings.mean(dim=0, keepdim=True), self.recognition)


def write_faces(faces: Faces, target: Path) -> None:
    """Write a file for `read_faces`, whole or not at all. Raises ValueError for a target that is there or refused."""
    metadata = {"format": "pt", "pack": PACK, "version": FORMAT, "recognition": faces.recognition}
    content = save({NAME: faces.embeddings.detach().cpu().contiguous()}, metadata)
    write_whole(content, target, "The faces", "choose another save_as")


def read_faces(path: Path) -> Faces:
    """Read the faces in a .safetensors file that `write_faces` has written, or that holds an embedding from elsewhere.

    Such a file holds one tensor, or one of the names in NAMES: [512] or [N, 512], with any axes of length 1; also
    diffusers' [2, N, 1, 512], where zeros for the negative prompt come first.
    Raises ValueError, which says what was found and what to do, for any other file.
    """
    check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            version = metadata.get("version")
            if metadata.get("pack") == PACK and version != FORMAT:
                raise ValueError(
                    f"{path.name} was expected to be of format {FORMAT}; it is of format {short(repr(version))}, which "
                    "a later version of this pack writes. Update the pack."
                )
            name = _name_of_faces(path.name, file.keys())
            tensor = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} was expected to be a face embedding; it cannot be read ({short(error)}). It is cut short, "
            f"damaged, gone or no .safetensors file. {MAKE_ONE}"
        ) from error
    rows = _rows(path.name, name, tensor)
    try:
        return Faces(rows, metadata.get("recognition", ""))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _name_of_faces(file_name: str, names: Collection[str]) -> str:
    candidates = [name for name in NAMES if name in names] or sorted(names)
    if len(candidates) == 1:
        return candidates[0]
    raise ValueError(
        f"{file_name} was expected to hold a face embedding: one tensor, or one named {' or '.join(NAMES)}; it holds "
        f"{some(candidates, NAMES_SHOWN) or 'nothing'}. Choose another file. {MAKE_ONE}"
    )


def _rows(file_name: str, name: str, tensor: Tensor) -> Tensor:
    """Return embeddings [N, 512], float32, of a tensor as `read_faces` takes it."""
    shape = list(tensor.shape)
    if tensor.ndim > 2 and shape[0] == 2 and not tensor[0].any():  # diffusers' negative
        tensor = tensor[1]
    counts = [length for length in tensor.shape[:-1] if length != 1]
    if not shape or shape[-1] != FACE_WIDTH or len(counts) > 1 or not tensor.is_floating_point():
        raise ValueError(
            f"{file_name} was expected to hold a face embedding, {FACE_WIDTH} numbers or [faces, {FACE_WIDTH}]; {name} "
            f"in it is {str(tensor.dtype).removeprefix('torch.')} {shape}. Choose another file. {MAKE_ONE}"
        )
    return tensor.reshape(-1, FACE_WIDTH).to(torch.float32)
