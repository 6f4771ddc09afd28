"""Adapter files: read, recognised by their keys, and checked key by key before anything is built."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import safetensors
import torch
from torch import Tensor, nn

from .cross_attention import SiteProjections, site_widths
from .families import SD15, Family, family_of_adapter
from .joint_attention import TOKEN_LAYERS, StreamProjections, TokenProjections, block_widths
from .resampler import Resampler, ResamplerSizes

T = TypeVar("T")

log = logging.getLogger(__name__)

RESAMPLER, ATTENTION = "image_proj.", "ip_adapter."
SD3_NAMES = {"proj_out_big.": "proj_out.", "norm_out_big.": "norm_out."}

# A file is something else when one of its names matches; what to do with it instead.
OTHER_FILES = (
    (r"[._]lora[._](up|down|A|B)\b|\.lora_linear_layer\.|^lora_", "a LoRA", "Load it with Load LoRA."),
    (r"^(control_model\.|controlnet_|input_hint_block|(input|down)_blocks\.0\.)", "a ControlNet or a bare UNet", ""),
    (r"^(model\.diffusion_model|cond_stage_model|first_stage_model)\.", "a whole checkpoint", "Use Load Checkpoint."),
    (r"^(encoder|decoder)\.(conv_in|mid|down|up|layers)\b", "a VAE", "Load it with Load VAE."),
    (r"^(vision_model|visual)\.", "an image encoder", "Choose it as image_encoder instead."),
    (r"^(text_model|text_projection|transformer\.|encoder\.block\b)", "a text encoder", "Load it with Load CLIP."),
)
GET_A_FILE = f"Put a published IPAdapter-Instruct file, such as {SD15.url} , into models/ipadapter and choose it here."
DOWNLOAD_AGAIN = "Download it again and compare its size."


class AdapterFileError(ValueError):
    """A file that is not a usable adapter; the message says what was found and what to do."""


@dataclass(frozen=True)
class AdapterCheckpoint:
    """The tensors of an adapter file under the modules' own names, checked and not yet built.

    resampler: names of `Resampler`; attention: names of the attention part, NUMBER.to_k_ip.weight and the like.
    """

    family: Family
    resampler: dict[str, Tensor]
    attention: dict[str, Tensor]


@dataclass(frozen=True)
class InstructAdapter:
    """An IPAdapter-Instruct ready to compute.

    projections: image tokens to keys and values of every site. streams: SD3's layers for the model's streams.
    """

    family: Family
    resampler: Resampler
    projections: SiteProjections | TokenProjections
    streams: StreamProjections | None = None


def read_file(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or .bin file, under dotted names.

    Pickled files are read with weights only: code in them never runs.
    Raises AdapterFileError when the file is damaged, carries code, or holds no tensors.
    """
    return _read(path, "cpu", lambda file, name: file.get_tensor(name))


def family_of_file(path: Path) -> Family:
    """The family of an adapter file, from the names and shapes of its tensors; their numbers are not read.

    Raises AdapterFileError as `read_file` and `recognise` do.
    """

    def shape_only(file, name: str) -> Tensor:
        return torch.empty(file.get_slice(name).get_shape(), device="meta")

    return recognise(_read(path, "meta", shape_only)).family


def _read(path: Path, device: str, get_tensor: Callable[..., Tensor]) -> dict[str, Tensor]:
    try:
        if _is_safetensors(path):
            with safetensors.safe_open(path, framework="pt") as file:
                return {name: get_tensor(file, name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return flatten(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # a damaged pickle may lead its reader to any exception
        raise AdapterFileError(_unreadable(path, error)) from error


def _is_safetensors(path: Path) -> bool:
    """Whether the content is: the length of a JSON header, then the header. A damaged one is known by its name."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix.lower() in (".safetensors", ".sft")


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """Nested dicts of tensors -> one dict with dotted names. What is not a tensor is left out."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"expected a dict of tensors, found {type(tree).__name__}")
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, Tensor):
            flat[f"{prefix}{name}"] = value
    return flat


def recognise(tensors: Mapping[str, Tensor]) -> AdapterCheckpoint:
    """Sort an adapter's tensors into parts, by their names and first dimensions.

    Raises AdapterFileError for any other kind of file and for an adapter with missing tensors.
    """
    resampler = _part(tensors, RESAMPLER)
    attention = _part(tensors, ATTENTION)
    if not resampler or not attention:
        raise AdapterFileError(_not_an_adapter(tensors))
    if not any(name.startswith(("proj_new_input.", "new_input_layers.")) for name in resampler):
        raise AdapterFileError(
            "An IPAdapter-Instruct file was expected; this is a plain IP-Adapter, without an input for instructions "
            f"({RESAMPLER}proj_new_input). Apply it with another node pack. {GET_A_FILE}"
        )
    joint = "proj_out_big.weight" in resampler
    resampler = {_rename(name): tensor for name, tensor in resampler.items()}
    width = _sizes(lambda tensors: tensors["proj_out.weight"].shape[0], resampler, RESAMPLER)
    return AdapterCheckpoint(family_of_adapter(width, joint), resampler, attention)


def build(checkpoint: AdapterCheckpoint, operations: ModuleType = nn) -> InstructAdapter:
    """Modules that hold the checkpoint's own tensors, without a copy and in the file's dtype.

    Raises AdapterFileError that lists missing or misshapen tensors; unexpected ones are warned of.
    """
    sizes = _sizes(ResamplerSizes.from_state_dict, checkpoint.resampler, RESAMPLER)
    resampler = _filled(lambda ops: Resampler(sizes, ops), operations, checkpoint.resampler, RESAMPLER)
    parts = _joint_parts if checkpoint.family.joint_attention else _cross_parts
    return InstructAdapter(checkpoint.family, resampler, *parts(checkpoint.attention, operations))


def _cross_parts(tensors: Mapping[str, Tensor], operations: ModuleType) -> tuple[nn.Module]:
    widths, context_width = _sizes(site_widths, tensors, ATTENTION)
    return (_filled(lambda ops: SiteProjections(widths, context_width, ops), operations, tensors, ATTENTION),)


def _joint_parts(tensors: Mapping[str, Tensor], operations: ModuleType) -> tuple[nn.Module, nn.Module]:
    widths = _sizes(block_widths, tensors, ATTENTION)
    tokens = {name: tensor for name, tensor in tensors.items() if any(x in name.split(".") for x in TOKEN_LAYERS)}
    streams = {name: tensor for name, tensor in tensors.items() if name not in tokens}
    return (
        _filled(lambda ops: TokenProjections(widths, ops), operations, tokens, ATTENTION),
        _filled(lambda ops: StreamProjections(widths, ops), operations, streams, ATTENTION),
    )


def _sizes(read: Callable[[Mapping[str, Tensor]], T], tensors: Mapping[str, Tensor], prefix: str) -> T:
    try:
        return read(tensors)
    except KeyError as error:
        raise AdapterFileError(_missing([prefix + str(error.args[0])])) from None
    except IndexError:
        raise AdapterFileError(
            f"The tensors {prefix}* were expected to be matrices whose sizes tell the adapter's; some have fewer "
            f"dimensions. The file is damaged. {DOWNLOAD_AGAIN}"
        ) from None


def _filled(
    make: Callable[[ModuleType], nn.Module], operations: ModuleType, tensors: Mapping[str, Tensor], prefix: str
) -> nn.Module:
    """The module made with `operations`, holding `tensors`; what they must be is read off torch's own layers."""
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in make(nn).state_dict().items()}
        module = make(operations).requires_grad_(False)  # or torch refuses tensors made in inference mode
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise AdapterFileError(_missing([prefix + name for name in missing]))
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise AdapterFileError(
                f"{prefix}{name} was expected to be {list(shape)}, as the file's other tensors say, and is "
                f"{list(tensors[name].shape)}. The file is damaged or mixed from several. {DOWNLOAD_AGAIN}"
            )
        if not tensors[name].is_floating_point():
            raise AdapterFileError(
                f"{prefix}{name} was expected to hold floating-point numbers; it holds {tensors[name].dtype}, so the "
                f"file is quantised in a way that cannot be read. {GET_A_FILE}"
            )
    unexpected = sorted(tensors.keys() - expected.keys())
    if unexpected:
        log.warning("The adapter file holds tensors that nothing uses: %s", _some(unexpected, prefix))
    module.load_state_dict({name: tensors[name] for name in expected}, assign=True)
    return module.eval()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _rename(name: str) -> str:
    for theirs, ours in SD3_NAMES.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name


def _not_an_adapter(tensors: Mapping[str, Tensor]) -> str:
    expected = f"An IPAdapter-Instruct file was expected (tensors {RESAMPLER}* and {ATTENTION}*)"
    for pattern, kind, remedy in OTHER_FILES:
        if any(re.search(pattern, name) for name in tensors):
            return " ".join(filter(None, (f"{expected}; this is {kind}.", remedy, GET_A_FILE)))
    found = _some(sorted(tensors)) if tensors else "no tensors at all"
    return f"{expected}; this file holds {found}. {GET_A_FILE}"


def _missing(names: list[str]) -> str:
    return (
        f"An IPAdapter-Instruct file was expected; {len(names)} of its tensors are missing: {_some(names)}. "
        f"The file is incomplete. {DOWNLOAD_AGAIN} If you converted it, convert the original again."
    )


def _some(names: list[str], prefix: str = "", limit: int = 4) -> str:
    shown = ", ".join(prefix + name for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _unreadable(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return (
            f"{path.name} was expected to hold tensors only; it also asks Python to run {code[1]}. "
            "Nothing in it was run. Get the file again from a source you trust, as .safetensors if there is one."
        )
    return (
        f"{path.name} was expected to be a file of tensors; its {path.stat().st_size:,} bytes cannot be read as one. "
        f"It is cut short, damaged, or something else under this name, such as a web page. "
        f"Nothing in it was run. {DOWNLOAD_AGAIN}"
    )
