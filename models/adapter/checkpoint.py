"""Adapter files: recognised by their keys, and checked key by key before anything is built."""

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, device, nn

from ..denoisers.adapter_layers import SiteProjections, StreamProjections, TokenProjections
from ..denoisers.denoiser import denoiser_of, denoiser_of_file
from ..families import SD15, Family, family_of_adapter
from ..files.encoder_files import EncoderNeed
from ..files.tensor_files import DOWNLOAD_AGAIN, AdapterFileError, read_file, read_metadata, read_shapes
from ..messages import short, some
from .kinds import INSTRUCT, Kind, kind_of, version_of
from .resampler import Projection, ProjectionSizes
from .trained_files import instructions_in

M = TypeVar("M", bound=nn.Module)

log = logging.getLogger(__name__)

IMAGE_PROJECTION, ATTENTION = "image_proj.", "ip_adapter."
# What a training run saves calls the parts otherwise, and holds the base model beside them.
# Source: tencent-ailab/IP-Adapter@cfcdf8c, the training scripts.
TRAINING_NAMES = {"image_proj_model.": IMAGE_PROJECTION, "adapter_modules.": ATTENTION}
BASE_MODEL = "unet."
LORA = re.compile(r"\d+\.to_(q|k|v|out)_lora\.(down|up)\.weight")

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
TENSORS_SHOWN = 4  # names in a message
HASHED_VALUES = 65536
MIXED = f"The file is damaged or mixed from several. {DOWNLOAD_AGAIN}"
EXPECTED = "An IPAdapter-Instruct or IP-Adapter file was expected"


@dataclass(frozen=True)
class AdapterCheckpoint:
    """The tensors of an adapter file under the modules' own names, checked and not yet built.

    image_projection: names of the kind's projection. attention: NUMBER.to_k_ip.weight and the like.
    lora: of a FaceID file, NUMBER.to_q_lora.down.weight and the like; it changes the model's own layers.
    notes: what is known of it by something else than its tensors, in words.
    instructions: those that this pack trained it on, as far as the file says.
    """

    family: Family
    image_projection: dict[str, Tensor]
    attention: dict[str, Tensor]
    kind: Kind = INSTRUCT
    lora: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> ProjectionSizes:
        """The image projection's. Raises AdapterFileError."""
        with _odd_sizes_refused(IMAGE_PROJECTION):
            return self.kind.projection.read_sizes(self.image_projection)

    @property
    def encoder_need(self) -> EncoderNeed | None:
        """The part of an encoded image the adapter reads; None if it reads a face alone. Raises AdapterFileError."""
        if self.kind.reads_hidden_states or self.kind.reads_image_embeds:
            return EncoderNeed(self.sizes.image_width, self.kind.reads_image_embeds)
        return None


@dataclass(frozen=True)
class Adapter:
    """An adapter ready to compute.

    image_projection: what makes image tokens, as the kind says. projections: image tokens to keys and values of every
    site. streams: SD3's layers for the model's streams.
    """

    family: Family
    image_projection: Projection
    projections: SiteProjections | TokenProjections
    streams: StreamProjections | None = None


def read_checkpoint(path: Path) -> AdapterCheckpoint:
    """Read an adapter file. Raises AdapterFileError as `read_file` and `recognise` do."""
    return recognise(read_file(path), path.name, read_metadata(path))


def look_at(path: Path) -> AdapterCheckpoint:
    """Read an adapter file as `read_checkpoint` does, but only its tensors' names and shapes, not their numbers."""
    return recognise(read_shapes(path), path.name, read_metadata(path))


def recognise(
    tensors: Mapping[str, Tensor], file_name: str = "", metadata: Mapping[str, str] | None = None
) -> AdapterCheckpoint:
    """Sort an adapter's tensors into parts, by their names and first dimensions.

    file_name, metadata: count only where tensors cannot tell, and the checkpoint's notes say so; metadata names the
    instructions that were trained, too.
    Raises AdapterFileError for any other kind of file and for an adapter with missing tensors.
    """
    named, metadata = published_names(tensors), metadata or {}
    projection, rest = _part(named, IMAGE_PROJECTION), _part(named, ATTENTION)
    kind = kind_of(projection)
    if kind is None or not rest:
        raise AdapterFileError(_not_an_adapter(tensors))
    _check_none_is_empty(named)
    denoiser = denoiser_of_file(projection)
    projection = {renamed(name, denoiser.file_names): tensor for name, tensor in projection.items()}
    with _odd_sizes_refused(IMAGE_PROJECTION):
        width = kind.projection.read_sizes(projection).out_width
    try:
        family = family_of_adapter(width, denoiser.name, denoiser.attention)
    except ValueError as error:
        raise AdapterFileError(str(error)) from None
    kind, notes = version_of(kind, file_name, metadata, width)
    lora = {name: tensor for name, tensor in rest.items() if LORA.fullmatch(name)}
    attention = {name: tensor for name, tensor in rest.items() if name not in lora}
    _check_lora(lora)
    return AdapterCheckpoint(family, projection, attention, kind, lora, notes, instructions_in(metadata))


def published_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors under the names of published files; a training file's without those of its base model."""
    named = {renamed(name, TRAINING_NAMES): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(BASE_MODEL)}


def build(checkpoint: AdapterCheckpoint, operations: ModuleType = nn) -> Adapter:
    """Build modules that hold the checkpoint's own tensors, without a copy and in the file's dtype.

    Raises AdapterFileError that lists missing or misshapen tensors; unexpected ones are warned of.
    """
    sizes, tensors = checkpoint.sizes, checkpoint.image_projection
    projection = _filled(partial(checkpoint.kind.projection, sizes), operations, tensors, IMAGE_PROJECTION)
    layers: list[Any] = []
    with _odd_sizes_refused(ATTENTION):
        parts = denoiser_of(checkpoint.family).read_layers(checkpoint.attention)
    for part in parts:
        if part.token_width not in (None, sizes.out_width):
            raise AdapterFileError(
                f"The tensors {ATTENTION}* were expected to take image tokens {sizes.out_width} wide, as "
                f"{IMAGE_PROJECTION}* makes them; they take {part.token_width}. {MIXED}"
            )
        layers.append(_filled(part.make, operations, part.tensors, ATTENTION))
    return Adapter(checkpoint.family, projection, *layers)


@contextlib.contextmanager
def _odd_sizes_refused(prefix: str) -> Iterator[None]:
    """Raise AdapterFileError for what reading sizes off tensors, and building by these sizes, may raise."""
    try:
        yield
    except KeyError as error:
        raise AdapterFileError(_missing([prefix + str(error.args[0])])) from None
    except (IndexError, ValueError, ZeroDivisionError, RuntimeError):  # torch's, of matrices larger than it can count
        raise AdapterFileError(
            f"The tensors {prefix}* were expected to be matrices whose sizes tell the adapter's; some have other "
            f"dimensions. The file is damaged. {DOWNLOAD_AGAIN}"
        ) from None


def _filled(make: Callable[[ModuleType], M], operations: ModuleType, tensors: Mapping[str, Tensor], prefix: str) -> M:
    """Return the module made with `operations`, holding `tensors`; what they must be is read off torch's own layers."""
    with _odd_sizes_refused(prefix), device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in make(nn).state_dict().items()}
        module = make(operations).requires_grad_(False)  # or torch refuses tensors made in inference mode
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise AdapterFileError(_missing([prefix + name for name in missing]))
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise AdapterFileError(
                f"{prefix}{name} was expected to be {list(shape)}, as the file's other tensors say, and is "
                f"{list(tensors[name].shape)}. {MIXED}"
            )
        if not tensors[name].is_floating_point():
            raise AdapterFileError(
                f"{prefix}{name} was expected to hold floating-point numbers; it holds {tensors[name].dtype}, so the "
                f"file is quantised in a way that cannot be read. {GET_A_FILE}"
            )
    unexpected = sorted(tensors.keys() - expected.keys())
    if unexpected:
        log.warning("The adapter file holds tensors that nothing uses: %s", some(unexpected, TENSORS_SHOWN, prefix))
    module.load_state_dict({name: tensors[name] for name in expected}, assign=True)
    return module.eval()


def fingerprint(tensors: Mapping[str, Tensor], kind: str = "") -> str:
    """Return a sha256 in hexadecimal, the same for an adapter in any precision, another for any trained otherwise.

    kind: what the tensors alone do not tell. tensors: by the modules' own names. Their names and shapes are hashed, and
    the signs of the first 65,536 numbers of each, which rounding keeps, zero's too; no digit is sure to be kept, since
    two roundings may differ from one. So tensors multiplied by a positive number look the same.
    """
    digest = hashlib.sha256(kind.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        signs = torch.signbit(tensor.detach().flatten()[:HASHED_VALUES].float())
        digest.update(signs.cpu().numpy().tobytes())
    return digest.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Return a tensor's name with its beginning changed as `names` has it; any other name as it is."""
    for theirs, ours in names.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name


def _check_none_is_empty(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.startswith((IMAGE_PROJECTION, ATTENTION)) and not tensor.numel():
            raise AdapterFileError(
                f"{short(name)} was expected to hold numbers; it is {list(tensor.shape)}, which holds "
                f"none. The file is damaged. {DOWNLOAD_AGAIN}"
            )


def _check_lora(lora: Mapping[str, Tensor]) -> None:
    """Raises AdapterFileError unless every layer has both of its matrices, and they fit each other."""
    for layer in sorted({name.rsplit(".", 2)[0] for name in lora}):
        down, up = (f"{layer}.{part}.weight" for part in ("down", "up"))
        missing = [ATTENTION + name for name in (down, up) if name not in lora]
        if missing:
            raise AdapterFileError(_missing(missing))
        shapes = lora[down].shape, lora[up].shape
        if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][1]:
            raise AdapterFileError(
                f"{ATTENTION}{layer} was expected to be two matrices of one rank; they are {list(shapes[0])} and "
                f"{list(shapes[1])}. {MIXED}"
            )


def _not_an_adapter(tensors: Mapping[str, Tensor]) -> str:
    expected = f"{EXPECTED} (tensors {IMAGE_PROJECTION}* and {ATTENTION}*)"
    for pattern, kind, remedy in OTHER_FILES:
        if any(re.search(pattern, name) for name in tensors):
            return " ".join(filter(None, (f"{expected}; this is {kind}.", remedy, GET_A_FILE)))
    found = some(sorted(tensors), TENSORS_SHOWN) if tensors else "no tensors at all"
    return f"{expected}; this file holds {found}. {GET_A_FILE}"


def _missing(names: list[str]) -> str:
    return (
        f"{EXPECTED}; {len(names)} of its tensors are missing: {some(names, TENSORS_SHOWN)}. "
        f"The file is incomplete. {DOWNLOAD_AGAIN} If you converted it, convert the original again."
    )
