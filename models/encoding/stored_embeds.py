"""Image tokens as a file: the tokens of every branch, and whose they are.

Axes: N latents (1: the same for all), T image tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from ..families import FAMILIES
from ..files.atomic_write import write_whole
from ..files.tensor_files import PACK, check_is_file
from ..guidance.branches import Branch, Branches
from ..messages import short, some

if TYPE_CHECKING:
    from .loaded_adapter import LoadedAdapter  # which needs ComfyUI, as reading files does not

EMBEDS_SUFFIX = ".instruct.safetensors"
FORMAT = "1"
WORDS = ("instruction", "family", "adapter", "fingerprint")
TOKENS_PREFIX = "image_tokens."
TOKEN_WEIGHTS = "token_weights"
EMBEDS_NAMES_SHOWN = 6

SAVE_AGAIN = "Save them again with Save Instruct Embeds."


@dataclass(frozen=True, eq=False)
class StoredEmbeds:
    """The contents of a file of embeds.

    image_tokens: [N, T, D] for each branch, the branches alike. token_weights: [N, T], or None.
    family, adapter: the names of the family and of the file that encoded them; fingerprint: that adapter's.
    """

    instruction: str
    family: str
    adapter: str
    fingerprint: str
    image_tokens: Branches[Tensor]
    token_weights: Tensor | None = None

    @classmethod
    def of(
        cls, adapter: LoadedAdapter, instruction: str, image_tokens: Branches[Tensor], token_weights: Tensor | None
    ) -> StoredEmbeds:
        """Return what is to be saved of embeds that `adapter` has made."""
        return cls(instruction, adapter.family.name, adapter.name, adapter.fingerprint, image_tokens, token_weights)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in the file."""
        named = {TOKENS_PREFIX + branch.value: tokens for branch, tokens in self.image_tokens.items()}
        return named if self.token_weights is None else {**named, TOKEN_WEIGHTS: self.token_weights}


def write_embeds(embeds: StoredEmbeds, target: Path) -> None:
    """Write a file for `read_embeds`, whole or not at all. Raises ValueError for a target that is there or refused."""
    metadata = {word: getattr(embeds, word) for word in WORDS}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in embeds.tensors.items()}
    content = save(tensors, {"format": "pt", "pack": PACK, "version": FORMAT, **metadata})
    write_whole(content, target, "The embeds")


def read_embeds(path: Path) -> StoredEmbeds:
    """Read a file that `write_embeds` has written. Raises ValueError, which says what to do, for any other one."""
    check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_metadata(path.name, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} was expected to be embeds saved by Save Instruct Embeds; it cannot be read ({short(error)}). "
            f"It is cut short, damaged or gone. {SAVE_AGAIN}"
        ) from error
    _check_tensors(path.name, tensors)
    tokens = Branches(**{branch.value: tensors[TOKENS_PREFIX + branch.value] for branch in Branch})
    words = {word: metadata[word] for word in WORDS}
    return StoredEmbeds(**words, image_tokens=tokens, token_weights=tensors.get(TOKEN_WEIGHTS))


def check_adapter(file_name: str, embeds: StoredEmbeds, adapter: LoadedAdapter) -> None:
    """Raises ValueError unless `adapter` is the one that the embeds in this file were made with."""
    if embeds.fingerprint != adapter.fingerprint:
        title = next((family.title for family in FAMILIES if family.name == embeds.family), embeds.family)
        raise ValueError(
            f"The embeds in {file_name} were made with {embeds.adapter} (for {title}); the connected adapter is "
            f"{adapter.name} (for {adapter.family.title}), which is another one. Load {embeds.adapter} or a conversion "
            "of it, or encode the picture again with the connected adapter."
        )
    width = embeds.image_tokens.full.shape[-1]
    if width != adapter.context_width:
        raise ValueError(
            f"The image tokens in {file_name} were expected to be {adapter.context_width} wide, as their adapter makes "
            f"them; they are {width} wide. The file has been changed. {SAVE_AGAIN}"
        )


def _check_metadata(name: str, metadata: Mapping[str, str]) -> None:
    if metadata.get("pack") != PACK or "version" not in metadata:
        raise ValueError(
            f"{name} was expected to be embeds saved by Save Instruct Embeds; it says nothing of it, so it is another "
            "kind of file. Choose another one."
        )
    if metadata["version"] != FORMAT:
        raise ValueError(
            f"{name} was expected to be of format {FORMAT}; it is of format {short(repr(metadata['version']))}, which "
            "a later version of this pack writes. Update the pack."
        )
    missing = [word for word in WORDS if word not in metadata]
    if missing:
        raise ValueError(f"{name} was expected to say its {', '.join(missing)}, and does not. {SAVE_AGAIN}")


def _check_tensors(name: str, tensors: Mapping[str, Tensor]) -> None:
    tokens = {TOKENS_PREFIX + branch.value for branch in Branch}
    if tensors.keys() - {TOKEN_WEIGHTS} != tokens:
        raise ValueError(
            f"{name} was expected to hold {', '.join(sorted(tokens))}; it holds "
            f"{some(sorted(tensors), EMBEDS_NAMES_SHOWN) or 'nothing'}. {SAVE_AGAIN}"
        )
    shapes = {tuple(tensors[key].shape) for key in tokens}
    shape = min(shapes)
    if len(shapes) > 1 or len(shape) != 3 or 0 in shape:
        raise ValueError(
            f"The image tokens in {name} were expected to be of one shape, [latents, tokens, width]; they are "
            f"{' and '.join(str(list(s)) for s in sorted(shapes))}. {SAVE_AGAIN}"
        )
    weights = tensors.get(TOKEN_WEIGHTS)
    if weights is not None and tuple(weights.shape) != shape[:2]:
        raise ValueError(
            f"{TOKEN_WEIGHTS} in {name} were expected to be {list(shape[:2])}, as the image tokens are {list(shape)}; "
            f"they are {list(weights.shape)}. {SAVE_AGAIN}"
        )
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor.double()).all():
            raise ValueError(
                f"{key} in {name} was expected to hold numbers; some are NaN or infinite, or it is {tensor.dtype}. "
                f"{SAVE_AGAIN}"
            )
