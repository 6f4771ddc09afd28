"""Adapter files in half precision: half the size, under the same names."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..families import Family
from ..files.atomic_write import writing
from ..files.published_files import sha256_of
from ..files.tensor_files import DOWNLOAD_AGAIN, read_file, read_metadata
from ..messages import PRECISIONS, check_choice
from .checkpoint import build, published_names, recognise
from .kinds import Kind

DTYPES: dict[str, torch.dtype] = dict(zip(PRECISIONS, (torch.float16, torch.bfloat16), strict=True))
SUFFIX = ".safetensors"
NOTE = "IPAdapter-Instruct or IP-Adapter; image_proj.* and ip_adapter.* as in the published file, under dotted names"


@dataclass(frozen=True)
class Conversion:
    """A file that was written: what it was made of, and what it is."""

    source: Path
    target: Path
    kind: Kind
    family: Family
    precision: str

    def __str__(self) -> str:
        source, target = (f"{path.stat().st_size / 1e6:,.1f} MB" for path in (self.source, self.target))
        what = f"{self.kind.title} for {self.family.title}"
        return f"{self.source.name} ({source}) -> {self.target} ({target}), {self.precision}, {what}"


def default_name(source: Path, precision: str) -> str:
    return f"{source.stem}-{precision}{SUFFIX}"


def convert(source: Path, target: Path, precision: str = "fp16", overwrite: bool = False) -> Conversion:
    """Write the adapter in `source` to `target` in half precision, every tensor under its published name.

    precision: one of PRECISIONS. The whole file is there in the end, or nothing of it, and then what was there before.
    Raises ValueError, before anything is written, for a target that cannot be written to, a source that is not
    a usable adapter, and weights that the precision cannot hold.
    """
    check_choice("precision", precision, PRECISIONS)
    _check_target(source, target, overwrite)
    tensors = published_names(read_file(source))
    checkpoint = recognise(tensors, source.name, read_metadata(source))
    tokens = build(checkpoint).image_projection.sizes.tokens
    dtype = DTYPES[precision]
    halves = {name: _half(name, tensor, dtype) for name, tensor in tensors.items()}
    metadata = {
        "format": "pt",
        "note": NOTE,
        "kind": checkpoint.kind.name,
        "family": checkpoint.family.name,
        "tokens": str(tokens),
        "dtype": str(dtype).removeprefix("torch."),
        "source_file": source.name,
        "source_sha256": sha256_of(source),
    }
    size = sum(half.nbytes for half in halves.values())
    with writing(target, "The converted weights", size, "write it elsewhere with cli.py convert --output") as part:
        save_file(halves, part, metadata)
    return Conversion(source, target, checkpoint.kind, checkpoint.family, precision)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() != SUFFIX:
        raise ValueError(f"The new file's name was expected to end in {SUFFIX}; it is {target.name}. Change its end.")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"The new file was expected to be another than {source.name}, which it is made of. Rename it.")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} is there already. Use it, choose another name, or say to overwrite it.")


def _half(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a contiguous copy that shares no memory with another, which the format asks for."""
    if not tensor.is_floating_point():
        return tensor.clone(memory_format=torch.contiguous_format)
    half = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if torch.isfinite(half).all():
        return half
    if not torch.isfinite(tensor.float()).all():
        raise ValueError(
            f"{name} was expected to hold numbers; some are NaN or infinite. The file is damaged. {DOWNLOAD_AGAIN}"
        )
    raise ValueError(
        f"{name} holds values up to {tensor.abs().max():.3g}, and {dtype} reaches {torch.finfo(dtype).max:g}. "
        "Convert to bf16, which reaches as far as float32."
    )
