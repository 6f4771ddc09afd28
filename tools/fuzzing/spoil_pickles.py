"""Pickles that ask for code, for memory, or for what no reader of tensors expects.

Every payload, were it run, would create the canary or do something that `trial` listens for.
"""

from __future__ import annotations

import collections
import importlib
import io
import pickle
import pickletools
import random
import struct
from collections.abc import Callable

import torch

from fuzzing.seeds import Tensors, as_pickle, tree
from fuzzing.spoil_archives import entries, packed

CANARY = "canary"  # in the trial's folder, which is the working directory
TOUCH = f"touch {CANARY}"
SCRIPT = f"open({CANARY!r}, 'w').close()"
PAYLOADS = (
    ("os", "system", (TOUCH,)),
    ("posix", "system", (TOUCH,)),
    ("nt", "system", (TOUCH,)),
    ("subprocess", "check_output", (["touch", CANARY],)),
    ("subprocess", "Popen", (["touch", CANARY],)),
    ("builtins", "exec", (SCRIPT,)),
    ("builtins", "eval", (SCRIPT,)),
    ("__builtin__", "eval", (SCRIPT,)),
    ("builtins", "open", (CANARY, "w")),
    ("io", "open", (CANARY, "w")),
    ("os", "mkdir", (CANARY,)),
    ("shutil", "copy", ("/etc/hostname", CANARY)),
    ("pathlib", "Path.touch", (CANARY,)),
    ("runpy", "_run_code", (SCRIPT, {})),
    ("pickle", "loads", (pickle.dumps(0),)),
    ("torch", "load", (CANARY,)),
    ("torch.serialization", "load", (CANARY,)),
    ("torch.hub", "load", (CANARY,)),
    ("torch", "save", (0, CANARY)),
    ("torch.jit", "load", (CANARY,)),
    ("numpy", "save", (CANARY, [1])),
    ("torch.storage", "_load_from_bytes", (b"",)),
    ("torch._utils", "_rebuild_tensor.__globals__", ()),
    ("builtins", "getattr", (0, "__class__")),
    ("builtins", "__import__", ("os",)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
)
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


class Call:
    """An object whose pickle asks that a function be called when it is read."""

    def __init__(self, function: object, *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def raw_call(module: str, name: str, arguments: tuple, how: str) -> bytes:
    """Return opcodes that call module.name(*arguments), one way of several."""
    given = pickle.dumps(arguments, 2)[2:-1]
    named = f"{module}\n{name}\n".encode()
    if how == "inst":
        inside = b"".join(pickle.dumps(a, 2)[2:-1] for a in arguments)
        return b"(" + inside + b"i" + named
    if how == "obj":
        return b"(c" + named + b"".join(pickle.dumps(a, 2)[2:-1] for a in arguments) + b"o"
    if how == "stack global":
        words = b"".join(b"X" + struct.pack("<I", len(w)) + w.encode() for w in (module, name))
        return words + b"\x93" + given + b"R"
    if how == "newobj":
        return b"c" + named + given + b"\x81"
    if how == "newobj ex":
        return b"c" + named + given + b"}\x92"
    if how == "build":
        return b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__c" + named + b"sb" + given + b"b"
    if how == "persistent":
        return given + b"Q"
    return b"c" + named + given + b"R"


WAYS = ("reduce", "inst", "obj", "stack global", "newobj", "newobj ex", "build", "persistent")


def with_code(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Put a call into the pickle of a valid file: in place of a tensor, before it all, or after it all."""
    call = raw_call(*rng.choice(PAYLOADS), rng.choice(WAYS))
    return edited(as_pickle(tree(tensors), container == "legacy"), lambda p: _with_call(rng, p, call))


def _with_call(rng: random.Random, content: bytes, call: bytes) -> bytes:
    head, end = content[:2], content.rfind(b".")
    places = (2, end) if rng.random() < 0.5 else (content.find(b"ctorch._utils"), end)
    place = max(2, rng.choice(places))
    return head + content[2:place] + call + rng.choice((b"0", b"", b"0N0")) + content[place:]


def bare(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """A pickle without torch's container, of any protocol."""
    module, name, arguments = rng.choice(PAYLOADS)
    try:
        function = getattr(importlib.import_module(module), name)
        body = {"image_proj": {"latents": Call(function, *arguments)}}
        return pickle.dumps(body, rng.randrange(6))
    except (ImportError, AttributeError, pickle.PicklingError):
        return b"\x80\x02}X\x01\x00\x00\x00a" + raw_call(module, name, arguments, rng.choice(WAYS)) + b"s."


def legacy_magic(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Put code into one of the small pickles that stand before the tensors in torch's old format."""
    parts = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    call = b"\x80\x02" + raw_call(*rng.choice(PAYLOADS), rng.choice(WAYS)) + b"."
    place = rng.randrange(len(parts) + 1)
    return b"".join([*parts[:place], call, *parts[place:], pickle.dumps({}, 2), pickle.dumps([], 2)])


def opcodes(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Replace opcodes, put some in or take some away."""
    return edited(as_pickle(tree(tensors), container == "legacy"), lambda p: _with_opcodes(rng, p))


def _with_opcodes(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 10))):
        place = rng.randrange(len(changed))
        changed[place : place + rng.randrange(2)] = rng.choice(OPCODES) + rng.randbytes(rng.choice((0, 0, 1, 4)))
    return bytes(changed)


def memory(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Return few bytes that ask for very many."""
    many = rng.choice((2**30, 2**34, 2**45))
    name, one = rng.choice(sorted(tensors.items()))
    made = {
        "bytearray": lambda: Call(bytearray, many),
        "tensor": lambda: Call(torch.FloatTensor, many // 4),
        "shaped like": lambda: Call(torch.FloatTensor, *one.shape),
        "all alike": lambda: torch.zeros(1).expand(many),
        "one number": lambda: torch.zeros(1, dtype=one.dtype).expand(one.shape),
        "storage": lambda: Call(torch.UntypedStorage, many),
        "set": lambda: set(range(2000)),
    }
    call = made[rng.choice(sorted(made))]()
    return as_pickle(tree({**tensors, name: call}), container == "legacy")


def lengths(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Put in an opcode with a length or a place that is far beyond the file."""
    number = struct.pack("<I", rng.choice((2**31 - 1, 2**32 - 1, 10**9)))
    opcode = rng.choice((b"X" + number, b"\x8b" + number, b"r" + number, b"j" + number, b"B" + number, b"T" + number))
    opcode = rng.choice((opcode, b"\x8e" + struct.pack("<Q", 10**13), b"\x8d" + struct.pack("<Q", 2**63 - 1)))
    return edited(as_pickle(tree(tensors), container == "legacy"), lambda p: p[:2] + opcode + p[2:])


def trees(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Dicts that contain themselves, stand in very many places, or are very deep."""
    named = tree(tensors)
    inner: dict = {"latents": next(iter(tensors.values()))}
    what = rng.choice(("itself", "many places", "deep", "wide", "no names", "a list"))
    if what == "itself":
        inner["image_proj"] = inner
    elif what == "deep":
        for _ in range(rng.choice((50, 300))):
            inner = {"a": inner}
    elif what == "many places":
        for _ in range(60):
            inner = {"a": inner, "b": inner}
    elif what == "wide":
        inner = {f"a{i}": {} for i in range(3000)}
    elif what == "no names":
        inner = {key: torch.zeros(1) for key in (1, None, (1, 2), b"x", 1.5, True)}
    return as_pickle({**named, "image_proj": [named] if what == "a list" else inner}, container == "legacy")


def rebuilt(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Tensors of other sorts than a plain one: sparse, without numbers, quantised, of classes of their own."""
    name, one = rng.choice(sorted(tensors.items()))
    wide = one.float()
    made = {
        "sparse": lambda: wide.to_sparse(),
        "meta": lambda: torch.empty(one.shape, device="meta"),
        "parameter": lambda: torch.nn.Parameter(one) if one.is_floating_point() else one,
        "ordered": lambda: collections.OrderedDict(weight=one),
        "conjugated": lambda: torch.complex(wide, wide).conj(),
        "negated": lambda: torch.complex(wide, wide).conj().imag,
        "with attributes": lambda: _with_attributes(one),
        "quantised": lambda: torch.quantize_per_tensor(wide, 0.1, 0, torch.qint8),
        "storage": lambda: one.untyped_storage(),
        "strided": lambda: torch.cat([one, one], -1)[..., : one.shape[-1]] if one.ndim else one,
        "wrong call": lambda: Call(torch._utils._rebuild_tensor_v2, *rng.sample((1, None, (), "x", wide), 4)),
        "meta call": lambda: Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float16, one.shape, (0,), False),
    }
    return as_pickle(tree({**tensors, name: made[rng.choice(sorted(made))]()}), container == "legacy")


def _with_attributes(one: torch.Tensor) -> torch.Tensor:
    tensor = one.clone()
    tensor.note = "a note"
    return tensor


def scalars(rng: random.Random, tensors: Tensors, container: str) -> bytes:
    """Return anything but a dict of tensors."""
    content = rng.choice((3, None, "text", [1], (), b"x", {}, {"image_proj": 3}, {"image_proj": {}, "ip_adapter": {}}))
    return as_pickle(rng.choice((content, torch.zeros(2), [tensors])), container == "legacy")


def edited(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A torch file whose pickle of names and shapes is changed."""
    if not content.startswith(b"PK"):
        start = _legacy_start(content)
        return content[:start] + change(content[start:])
    return packed([(name, change(i) if name.endswith("data.pkl") else i) for name, i in entries(content)])


def _legacy_start(content: bytes) -> int:
    """Return the place behind the three small pickles at the beginning."""
    stream = io.BytesIO(content)
    for _ in range(3):
        for _ in pickletools.genops(stream):
            pass
    return stream.tell()


SPOILT: dict[str, Callable[[random.Random, Tensors, str], bytes]] = {
    "pickle: with code": with_code,
    "pickle: bare, with code": bare,
    "pickle: code in the preamble": legacy_magic,
    "pickle: opcodes": opcodes,
    "pickle: asks for memory": memory,
    "pickle: lengths": lengths,
    "pickle: odd trees": trees,
    "pickle: odd tensors": rebuilt,
    "pickle: no dict of tensors": scalars,
}
