"""Pickles that ask for code, for memory, or for what no reader of tensors expects.

Every payload, were it run, would create the canary or do something that `trial` listens for.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import struct
from collections.abc import Callable

import torch
from hypothesis.strategies import DrawFn, binary, integers, just, lists, sampled_from

from fuzzing.spoil_archives import members, packed
from fuzzing.valid_files import pickled, tensors, tree, valid

CANARY = "canary"  # in the trial's folder, which is the working directory
SCRIPT = f"open({CANARY!r}, 'w').close()"
PAYLOADS = (
    *((module, "system", (f"touch {CANARY}",)) for module in ("os", "posix", "nt")),
    *(("subprocess", name, (["touch", CANARY],)) for name in ("check_output", "Popen")),
    *((module, name, (SCRIPT,)) for module in ("builtins", "__builtin__") for name in ("exec", "eval")),
    *((module, "open", (CANARY, "w")) for module in ("builtins", "io")),
    *((module, "load", (CANARY,)) for module in ("torch", "torch.serialization", "torch.hub", "torch.jit")),
    *(("os", "mkdir", (CANARY,)), ("pathlib", "Path.touch", (CANARY,)), ("shutil", "copy", ("/etc/hostname", CANARY))),
    *(("runpy", "_run_code", (SCRIPT, {})), ("pickle", "loads", (pickle.dumps(0),)), ("torch", "save", (0, CANARY))),
    *(("numpy", "save", (CANARY, [1])), ("torch.storage", "_load_from_bytes", (b"",))),
    *(("torch._utils", "_rebuild_tensor.__globals__", ()), ("builtins", "getattr", (0, "__class__"))),
    *(("builtins", "__import__", ("os",)), ("socket", "create_connection", (("127.0.0.1", 9),))),
)
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


class Call:
    """An object whose pickle asks that a function be called when it is read."""

    def __init__(self, function: object, *arguments: object):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def _call(draw: DrawFn) -> bytes:
    """Draw opcodes that call a payload, one way of several."""
    module, name, arguments = draw(sampled_from(PAYLOADS))
    inside = b"".join(pickle.dumps(a, 2)[2:-1] for a in arguments)
    given, named = pickle.dumps(arguments, 2)[2:-1], f"{module}\n{name}\n".encode()
    words = b"".join(b"X" + struct.pack("<I", len(word)) + word.encode() for word in (module, name))
    ways = (
        *(b"c" + named + given + b"R", b"(" + inside + b"i" + named, b"(c" + named + inside + b"o"),
        *(words + b"\x93" + given + b"R", b"c" + named + given + b"\x81", b"c" + named + given + b"}\x92"),
        b"ccollections\nOrderedDict\n)R}X\x0c\0\0\0__setstate__c" + named + b"sb" + given + b"b",
        given + b"Q",
    )
    return draw(sampled_from(ways))


def _with_code(draw: DrawFn, names: bytes) -> bytes:
    """Put in a call: in place of a tensor, before it all, or after it all."""
    place = max(2, draw(sampled_from((2, names.find(b"ctorch._utils"), names.rfind(b".")))))
    return names[:place] + _call(draw) + draw(sampled_from((b"0", b"", b"0N0"))) + names[place:]


def _opcodes(draw: DrawFn, names: bytes) -> bytes:
    """Replace opcodes, put some in or take some away."""
    for place in draw(lists(integers(0, len(names) - 1), min_size=1, max_size=draw(sampled_from((1, 10))))):
        new = draw(sampled_from(OPCODES)) + draw(just(b"") | binary(max_size=4))
        names = names[:place] + new + names[place + draw(integers(0, 1)) :]
    return names


def _lengths(draw: DrawFn, names: bytes) -> bytes:
    """Put in an opcode with a length or a place that is far beyond the file."""
    code, size = draw(sampled_from((b"X", b"\x8b", b"r", b"j", b"B", b"T"))), draw(integers(10**9, 2**32 - 1))
    long = (b"\x8e" + struct.pack("<Q", 10**13), b"\x8d" + struct.pack("<Q", 2**63 - 1))
    return names[:2] + draw(sampled_from((code + struct.pack("<I", size), *long))) + names[2:]


def _edited(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the pickle of names and shapes in a torch file."""
    if content.startswith(b"PK"):
        return packed([(n, change(inner) if n.endswith("data.pkl") else inner) for n, inner in members(content)])
    stream = io.BytesIO(content)
    for _ in range(3):  # small pickles at the beginning
        collections.deque(pickletools.genops(stream), 0)
    return content[: stream.tell()] + change(content[stream.tell() :])


def _bare(draw: DrawFn) -> bytes:
    """Return a pickle without torch's container, or one in whose container a small pickle calls."""
    head, call = b"\x80" + bytes([draw(integers(0, 5))]), _call(draw)
    parts = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    parts.insert(draw(integers(0, 3)), b"\x80\x02" + call + b".")
    return draw(sampled_from((b"".join(parts), head + call + b".", head + b"}X\1\0\0\0a" + call + b"s.")))


def _tree(draw: DrawFn, named: dict, one: torch.Tensor) -> object:
    """Return dicts that contain themselves, stand in very many places, or are very deep; or anything but a dict."""
    itself = {"latents": one}
    itself["image_proj"] = itself
    deep = {"a": one}
    for _ in range(draw(sampled_from((50, 300)))):
        deep = {"a": deep}
    many = {"a": one}
    for _ in range(60):
        many = {"a": many, "b": many}
    parts = (
        itself,
        deep,
        many,
        {f"a{i}": {} for i in range(3000)},
        dict.fromkeys((1, None, (1, 2), 1.5), one),
        [named],
    )
    others = (3, None, "text", [1], (), b"x", {}, {"image_proj": 3}, {"image_proj": {}, "ip_adapter": {}}, one, [named])
    return draw(sampled_from(parts).map(lambda part: {**named, "image_proj": part}) | sampled_from(others))


def _with_attributes(one: torch.Tensor) -> torch.Tensor:
    one = one.clone()
    one.note = "a note"
    return one


# What may stand in place of one tensor: what asks for so many bytes, and tensors of other sorts than a plain one.
ASKING = (
    lambda one, many: Call(bytearray, many),
    lambda one, many: Call(torch.FloatTensor, many // 4),
    lambda one, many: Call(torch.UntypedStorage, many),
    lambda one, many: Call(torch.FloatTensor, *one.shape),
    lambda one, many: torch.zeros(1).expand(many),
    lambda one, many: torch.zeros(1, dtype=one.dtype).expand(one.shape),
    lambda one, many: set(range(2000)),
)
ODD = (
    lambda one, many: one.float().to_sparse(),
    lambda one, many: torch.empty(one.shape, device="meta"),
    lambda one, many: torch.nn.Parameter(one),
    lambda one, many: collections.OrderedDict(weight=one),
    lambda one, many: torch.complex(one.float(), one.float()).conj(),
    lambda one, many: torch.complex(one.float(), one.float()).conj().imag,
    lambda one, many: torch.quantize_per_tensor(one.float(), 0.1, 0, torch.qint8),
    lambda one, many: one.untyped_storage(),
    lambda one, many: torch.cat([one, one], -1)[..., : one.shape[-1]],
    lambda one, many: Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float16, one.shape, (0,), False),
    lambda one, many: Call(torch._utils._rebuild_tensor_v2, None, (), one, many),
    lambda one, many: _with_attributes(one),
)
EDITS = {"with code": _with_code, "opcodes": _opcodes, "lengths": _lengths}
OTHERS = ("bare, with code", "odd trees", "asks for memory", "odd tensors")
WAYS = (*EDITS, "with code", *OTHERS, *OTHERS)


def spoilt(draw: DrawFn, way: str, file: str, container: str) -> bytes:
    if way == "bare, with code":
        return _bare(draw)
    if way in EDITS:
        return _edited(valid(file, container), lambda names: EDITS[way](draw, names))
    named = tensors(file)
    name = draw(sampled_from(sorted(named)))
    if way == "odd trees":
        return pickled(_tree(draw, tree(named), named[name]), container)
    odd = draw(sampled_from(ODD if way == "odd tensors" else ASKING))
    many = draw(sampled_from((2**30, 2**30, 2**34, 2**45)))
    return pickled(tree({**named, name: odd(named[name], many)}), container)
