"""Small valid files of everything that the pack reads, to be spoilt. Names and shapes are comfyhost's, sizes tiny."""

from __future__ import annotations

import functools
import io
import json
import pickle
import random
import struct
from collections.abc import Mapping

import torch
from comfyhost import adapters, plain_adapters
from comfyhost.adapters import Shape, attention, cross_sites, feed_forward, joint_sites, nested
from comfyhost.plain_adapters import Plain
from comfyhost.weights import Blueprint, draw
from torch import Tensor

Tensors = dict[str, Tensor]

SITES = (8, 16)
IMAGE, TEXT, WIDTH, FACE = 16, 12, 16, 512
SD15, SDXL = 768, 2048
TINY = {"image": IMAGE, "width": WIDTH, "heads": 1, "blocks": 1, "growth": 1, "tokens": 2}
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def instruct(family: str) -> Blueprint:
    shape = adapters.SHAPES[family]
    tiny, parts = Shape(WIDTH, 1, shape.token_width, shape.last_layers), Blueprint()
    parts.put("image_proj.latents", 1, 2, WIDTH)
    for name, wide in (("proj_in", IMAGE), ("proj_new_input", TEXT), ("proj_prompt_input", TEXT)):
        parts.linear(f"image_proj.{name}", wide, WIDTH)
    for stack in ("layers", "prompt_layers", "new_input_layers"):
        attention(parts, f"image_proj.{stack}.0.0.", tiny)
        feed_forward(parts, f"image_proj.{stack}.0.1.", WIDTH, 1)
    projection, norm = shape.last_layers
    parts.linear(f"image_proj.{projection}", WIDTH, shape.token_width)
    parts.norm(f"image_proj.{norm}", shape.token_width)
    parts.add("ip_adapter.", joint_sites((8, 8)) if family == "sd3" else cross_sites(SITES, shape.token_width))
    return parts


def face(token_width: int, tokens: int = 2) -> Blueprint:
    """FaceID's projection, whose hidden layer is 1024 wide in comfyhost and 8 here."""
    parts = Blueprint()
    parts.linear("image_proj.proj.0", FACE, 8)
    parts.linear("image_proj.proj.2", 8, tokens * token_width)
    parts.norm("image_proj.norm", token_width)
    parts.add("ip_adapter.", cross_sites(SITES, token_width))
    return parts


def face_plus() -> Blueprint:
    parts = face(SD15)
    parts.add("image_proj.perceiver_resampler.", plain_adapters.reader(Plain("faceid-plus", **{**TINY, "width": SD15})))
    parts.put("image_proj.perceiver_resampler.layers.0.1.1.weight", 8, SD15)  # to be small
    parts.put("image_proj.perceiver_resampler.layers.0.1.3.weight", SD15, 8)
    parts.add("ip_adapter.", plain_adapters.lora(SITES, Plain("faceid-plus", rank=2)))
    return parts


def plain(kind: str, token_width: int = SD15, **changes: int) -> Blueprint:
    return plain_adapters.plain_adapter(Plain(kind, token_width, **{**TINY, **changes}), SITES)


def with_lora() -> Blueprint:
    parts = face(SD15)
    parts.add("ip_adapter.", plain_adapters.lora(SITES, Plain("faceid", rank=2)))
    return parts


def training() -> Blueprint:
    """Return an adapter as a training run saves it."""
    names = {"image_proj.": "image_proj_model.", "ip_adapter.": "adapter_modules."}
    parts = plain("plus")
    renamed = {names[p] + name.removeprefix(p): w for name, w in parts.items() for p in names if name.startswith(p)}
    return Blueprint({**renamed, **{f"unet.{name}": w for name, w in plain("base").items()}})


def tower(image: bool, transformers: bool) -> Blueprint:
    """The names of a CLIP tower of one block; only the norm has the width that tells it."""
    parts, prefix = Blueprint(), "visual." if image else "text."
    if transformers:
        prefix = "vision_model." if image else "text_model."
        first = ("embeddings.class_embedding", "embeddings.patch_embedding.weight")
        first = first if image else ("embeddings.token_embedding.weight",)
        norms = ("pre_layrnorm", "post_layernorm") if image else ("final_layer_norm",)
        places, blocks = "embeddings.position_embedding.weight", "encoder.layers.0."
        inner = [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")]
        inner += ["mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2"]
    else:
        first = ("class_embedding", "conv1.weight") if image else ("token_embedding.weight",)
        norms, places = ("ln_pre", "ln_post") if image else ("ln_final",), "positional_embedding"
        blocks, inner = "transformer.resblocks.0.", ["attn.out_proj", "mlp.c_fc", "mlp.c_proj", "ln_1", "ln_2"]
        for part, shape in (("weight", (6, 2)), ("bias", (6,))):
            parts.put(f"{prefix}{blocks}attn.in_proj_{part}", *shape)
    for name in first:
        parts.put(prefix + name, *((4, 3, 2, 2) if name in ("conv1.weight", first[-1]) and image else (4,)))
    parts.put(prefix + places, 5, 4)
    for norm in norms:
        parts.norm(prefix + norm, 1280 if image else 768)
    for name in inner:
        parts.linear(prefix + blocks + name, 2, 2)
    return parts


ADAPTERS = {
    "instruct sd15": lambda: instruct("sd15"),
    "instruct sdxl": lambda: instruct("sdxl"),
    "instruct sd3": lambda: instruct("sd3"),
    "base": lambda: plain("base"),
    "base sdxl": lambda: plain("base", SDXL),
    "plus": lambda: plain("plus"),
    "full-face": lambda: plain("full-face"),
    "faceid": with_lora,
    "portrait": lambda: face(SDXL),
    "faceid-plus": face_plus,
    "faceid-resampler": lambda: plain("faceid-resampler", SDXL, image=FACE),
    "training": training,
}
TOWERS = {f"tower {i}{t}": (lambda i=i, t=t: tower(bool(i), bool(t))) for i in (0, 1) for t in (0, 1)}
EMBEDS_WORDS = {
    "format": "pt",
    "pack": "ComfyUI-IPAdapter-Instruct",
    "version": "1",
    "instruction": "use the style",
    "family": "sd15",
    "adapter": "ip-adapter-instruct-sd15.bin",
    "fingerprint": "0" * 64,
}


def embeds() -> Blueprint:
    parts = Blueprint()
    for branch in ("full", "everything", "image_only", "uncond"):
        parts.put(f"image_tokens.{branch}", 1, 2, 8)
    parts.put("token_weights", 1, 2)
    return parts


def faces() -> Blueprint:
    parts = Blueprint()
    parts.put("face_embedding", 2, FACE, spread=1.0)
    return parts


EMBEDS = {"embeds": embeds}
FACES = {"faces": faces}
METADATA = {"embeds": EMBEDS_WORDS, "faces": {"format": "pt", "pack": EMBEDS_WORDS["pack"], "version": "1"}}
BLUEPRINTS = {**ADAPTERS, **TOWERS, **EMBEDS, **FACES}


@functools.cache
def drawn(name: str, dtype: torch.dtype = torch.float16) -> Mapping[str, Tensor]:
    return draw(BLUEPRINTS[name](), seed=0, dtype=dtype)


def tensors(name: str) -> Tensors:
    """A valid file's tensors. The numbers are shared between calls, and so must not be changed in place."""
    return dict(drawn(name, torch.float32 if name in METADATA else torch.float16))


def header(named: Mapping[str, Tensor], metadata: Mapping[str, object] | None) -> tuple[dict, bytes]:
    """A .safetensors file's header, not serialised yet, and the bytes behind it."""
    entries, parts, place = {"__metadata__": dict(metadata)} if metadata else {}, [], 0
    for name, tensor in named.items():
        content = raw(tensor)
        entries[name] = {
            "dtype": CODES.get(tensor.dtype, "F32"),
            "shape": list(tensor.shape),
            "data_offsets": [place, place + len(content)],
        }
        parts.append(content)
        place += len(content)
    return entries, b"".join(parts)


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def framed(head: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(head)) + head + body


def as_safetensors(named: Mapping[str, Tensor], metadata: Mapping[str, object] | None = None) -> bytes:
    entries, body = header(named, metadata)
    head = json.dumps(entries).encode()
    return framed(head + b" " * (-len(head) % 8), body)


def tree(named: Mapping[str, Tensor]) -> dict:
    """Nest tensors as published pickles do, where the names allow it."""
    published = all(name.split(".")[0] in ("image_proj", "ip_adapter") for name in named)
    return nested(dict(named)) if published else dict(named)


def as_pickle(content: object, legacy: bool = False) -> bytes:
    if legacy:
        return as_older_pickle(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class OlderPickler(pickle.Pickler):
    """Calls storages by their numbers, where torch's own writer takes their places in memory."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=2)
        self.storages: dict[int, tuple[str, torch.UntypedStorage, int]] = {}

    def persistent_id(self, thing: object) -> tuple | None:
        if isinstance(thing, torch.storage.TypedStorage):
            storage, kind, size = thing._untyped_storage, getattr(torch, thing.pickle_storage_type()), thing.size()
        elif isinstance(thing, torch.UntypedStorage):
            storage, kind, size = thing, torch.UntypedStorage, thing.nbytes()
        else:
            return None
        unit = storage.nbytes() // size if size else 1
        key, _, _ = self.storages.setdefault(storage._cdata, (str(len(self.storages)), storage, unit))
        return "storage", kind, key, "cpu", size, None


def as_older_pickle(content: object) -> bytes:
    """Pickle the content as torch.save did before it wrote archives."""
    buffer = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for front in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(front, buffer, protocol=2)
    pickler = OlderPickler(buffer)
    pickler.dump(content)
    pickle.dump([key for key, _, _ in pickler.storages.values()], buffer, protocol=2)
    for _, storage, unit in pickler.storages.values():
        buffer.write(struct.pack("<q", storage.nbytes() // unit) + content_of(storage))
    return buffer.getvalue()


def content_of(storage: torch.UntypedStorage) -> bytes:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


def serialised(rng: random.Random, name: str, named: Mapping[str, Tensor], container: str) -> bytes:
    if container == "safetensors":
        return as_safetensors(named, METADATA.get(name))
    return as_pickle(tree(named), legacy=container == "legacy")


@functools.cache
def valid(name: str, container: str) -> bytes:
    """A valid file's bytes. container: safetensors, zip or legacy."""
    return serialised(random.Random(0), name, tensors(name), container)
