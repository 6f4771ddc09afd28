"""Small valid files of everything that the pack reads, to be spoilt. Names and shapes are comfyhost's, sizes tiny."""

import functools
import io
import json
import pickle
import struct

import torch
from comfyhost.adapters import FACE, SD15, SDXL, SHAPES, Plain, instruct_adapter, nested, plain_adapter
from comfyhost.weights import Blueprint, Weight, draw
from ipadapter_instruct.models.encoding.open_clip import files as towers
from safetensors.torch import save

Tensors = dict[str, torch.Tensor]

SITES = (8, 16)
TINY = {"image": 16, "width": 16, "heads": 1, "blocks": 1, "growth": 1, "tokens": 2}


def instruct(family: str) -> Blueprint:
    return instruct_adapter(family, (8, 8) if family == "sd3" else SITES, width=16, heads=1, blocks=1)


def plain(kind: str, token_width: int = SD15, **changes: int) -> Blueprint:
    """An adapter that takes no instruction. FaceID's hidden layer is 1024 wide in comfyhost and 8 here."""
    parts = plain_adapter(Plain(kind, token_width, **{**TINY, **changes}), SITES)
    if kind in ("faceid", "faceid-plus"):
        parts.linear("image_proj.proj.0", FACE, 8)
        parts.linear("image_proj.proj.2", 8, 2 * token_width)
    return parts


def training() -> Blueprint:
    """Return an adapter as a training run saves it."""
    theirs = {"image_proj": "image_proj_model", "ip_adapter": "adapter_modules"}
    named = (name.split(".", 1) + [weight] for name, weight in plain("plus").items())
    file = Blueprint({f"{theirs[part]}.{rest}": weight for part, rest, weight in named})
    file.add("unet.", plain("base"))
    return file


def tower(title: str, layout: int, prefix: str, width: int) -> Blueprint:
    """Return a CLIP tower of one block; only its norm has the width that tells it."""
    kind, place = (
        {"image": towers.IMAGE, "text": towers.TEXT}[title],
        towers.Place(list(towers.LAYOUTS)[layout], prefix),
    )
    parts, shapes = Blueprint(), {"conv1.weight": (4, 3, 2, 2), kind.norm: (width,)}
    block = (f"{towers.BLOCKS}0.{part}{end}" for part in towers.BLOCK_PARTS for end in ("weight", "bias"))
    for ours in (*kind.marks, *kind.others, *block):
        for name in place.sources(ours):
            parts.put(name, *shapes.get(ours, (2, 2)))
    return parts


def embeds() -> Blueprint:
    tokens = {f"image_tokens.{branch}": (1, 2, 8) for branch in ("full", "everything", "image_only", "uncond")}
    return Blueprint({name: Weight(shape, 1.0) for name, shape in {**tokens, "token_weights": (1, 2)}.items()})


# By what reads them.
FILES = {
    "adapter": {
        **{f"instruct {family}": functools.partial(instruct, family) for family in SHAPES},
        **{kind: functools.partial(plain, kind) for kind in ("base", "plus", "full-face")},
        "base sdxl": lambda: plain("base", SDXL),
        "faceid": lambda: plain("faceid", rank=2),
        "portrait": lambda: plain("faceid", SDXL),
        "faceid-plus": lambda: plain("faceid-plus", width=SD15, rank=2),
        "faceid-resampler": lambda: plain("faceid-resampler", SDXL, image=FACE),
        "training": training,
    },
    "embeds": {"embeds": embeds},
    "faces": {"faces": lambda: Blueprint(face_embedding=Weight((2, FACE), 1.0))},
    "tower": {
        "open_clip's image tower": lambda: tower("image", 0, "visual.", 1280),
        "open_clip's text tower": lambda: tower("text", 0, "text.", 768),
        "transformers' image tower": lambda: tower("image", 1, "vision_model.", 1280),
        "transformers' text tower": lambda: tower("text", 1, "text_model.", 768),
    },
}
SAVED = {"format": "pt", "pack": "ComfyUI-IPAdapter-Instruct", "version": "1"}
MADE_WITH = {"family": "sd15", "adapter": "ip-adapter-instruct-sd15.bin", "fingerprint": "0" * 64}
METADATA = {"embeds": {**SAVED, **MADE_WITH, "instruction": "use the style"}, "faces": SAVED}


@functools.cache
def _drawn(file: str) -> Tensors:
    made = next(files[file] for files in FILES.values() if file in files)
    return draw(made(), seed=0, dtype=torch.float32 if file in METADATA else torch.float16)


def tensors(file: str) -> Tensors:
    """A valid file's tensors. The numbers are shared between calls, and so must not be changed in place."""
    return dict(_drawn(file))


@functools.cache
def valid(file: str, container: str) -> bytes:
    return serialised(file, tensors(file), container)


def serialised(file: str, named: Tensors, container: str) -> bytes:
    """Serialise tensors as the valid file is. container: safetensors, zip or legacy."""
    if container != "safetensors":
        return pickled(tree(named), container)
    head, body = header_of(save({name: tensor.clone().contiguous() for name, tensor in named.items()}))
    words = {"__metadata__": METADATA[file]} if file in METADATA else {}  # which `save` writes in any order
    return with_header(json.dumps({**words, **head}).encode(), body)


def header_of(content: bytes) -> tuple[dict, bytes]:
    """Return a .safetensors file's header, and what is behind it."""
    size = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:size]), content[size:]


def with_header(text: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + body


def tree(named: dict) -> dict:
    """Nest tensors as published pickles do, where the names allow it."""
    return nested(named) if all(name.split(".")[0] in ("image_proj", "ip_adapter") for name in named) else named


def pickled(content: object, container: str) -> bytes:
    """Pickle the content as torch.save does. container: zip, or legacy, as it did before it wrote archives.

    Torch's own writer of the latter calls storages by their places in memory, which differ each time: here by numbers.
    """
    buffer, storages = io.BytesIO(), {}
    if container == "zip":
        torch.save(content, buffer)
        return buffer.getvalue()

    def number_of(thing: object) -> tuple | None:
        if not isinstance(thing, (torch.storage.TypedStorage, torch.UntypedStorage)):
            return None
        number, _ = storages.setdefault(thing._cdata, (len(storages), thing))
        kind = getattr(torch, thing.pickle_storage_type()) if hasattr(thing, "dtype") else torch.UntypedStorage
        return "storage", kind, str(number), "cpu", len(thing), None

    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for front in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(front, buffer, protocol=2)
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.persistent_id = number_of
    pickler.dump(content)
    pickle.dump([str(number) for number in range(len(storages))], buffer, protocol=2)
    for _, storage in storages.values():
        numbers = torch.empty(0, dtype=torch.uint8).set_(storage.untyped()).numpy().tobytes()
        buffer.write(struct.pack("<q", len(storage)) + numbers)
    return buffer.getvalue()
