"""Embeddings of many pictures and texts, cached on disk.

What an encoder gives for a picture depends, in its last digit, on the others of its batch. So what is to be encoded is
put in order and divided into the same batches, whatever was asked for first or had been done before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ...models.files.tensor_cache import TensorCache
from .encoders import Encoder
from .pixels import opened

ENCODED_AT_ONCE = 32
Told = Callable[[int, int, str], None]  # how many are done, of how many, and of what


class Embeddings:
    """Embeddings [D] by one encoder. folder: of the cache. tell: told how far it is."""

    def __init__(self, encoder: Encoder, folder: Path, tell: Told):
        self.encoder, self.cache, self.tell = encoder, TensorCache(folder), tell

    def of_pictures(self, paths: Iterable[Path]) -> dict[Path, Tensor]:
        """Return each picture's embedding. Pictures of the same content are encoded once."""
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in dict.fromkeys(paths)}
        files = {digest: path for path, digest in digests.items()}
        encode = self.encoder.images
        assert encode is not None, "asked for what the encoder has not"
        found = self._encoded(sorted(files), lambda names: encode([opened(files[name]) for name in names]), "pictures")
        return {path: found[digest] for path, digest in digests.items()}

    def of_texts(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """Return each text's embedding."""
        encode = self.encoder.texts
        assert encode is not None, "asked for what the encoder has not"
        return self._encoded(sorted(set(texts)), encode, "texts")

    def _encoded(self, names: Sequence[str], encode: Callable[[Sequence[str]], Tensor], what: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for start in range(0, len(names), ENCODED_AT_ONCE):
            batch = names[start : start + ENCODED_AT_ONCE]
            path = self.cache.path(self.encoder.name, what, *batch)
            self.cache.fill(path, lambda batch=batch: {"embeddings": encode(batch)})
            found |= zip(batch, load_file(path)["embeddings"], strict=True)
            self.tell(len(found), len(names), f"{what}, {self.encoder.name}")
        return found
