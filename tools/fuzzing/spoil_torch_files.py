"""Torch's files spoilt: archives that torch does not write, and pickles that ask for code, for memory, or for what no
reader of tensors expects.

Every payload, were it run, would create the canary or do something that `trial` listens for.
"""

import collections
import functools
import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED

import torch
from hypothesis.strategies import DrawFn, binary, booleans, builds, integers, sampled_from

from fuzzing.spoil_bytes import edited
from fuzzing.spoil_tensors import Parts, changed
from fuzzing.valid_files import pickled, tensors, tree, valid

CANARY = "canary"  # in the trial's folder, which is the working directory
SCRIPT = f"open({CANARY!r}, 'w').close()"
# Functions, and what each is called with.
PAYLOADS = {
    "os:system posix:system nt:system": (f"touch {CANARY}",),
    "subprocess:check_output subprocess:Popen": (["touch", CANARY],),
    "builtins:exec __builtin__:exec builtins:eval __builtin__:eval": (SCRIPT,),
    "builtins:open io:open": (CANARY, "w"),
    "torch:load torch.serialization:load torch.hub:load torch.jit:load os:mkdir pathlib:Path.touch": (CANARY,),
    "shutil:copy": ("/etc/hostname", CANARY),
    "runpy:_run_code": (SCRIPT, {}),
    "pickle:loads": (pickle.dumps(0),),
    "torch:save": (0, CANARY),
    "numpy:save": (CANARY, [1]),
    "torch.storage:_load_from_bytes": (b"",),
    "torch._utils:_rebuild_tensor.__globals__": (),
    "builtins:getattr": (0, "__class__"),
    "builtins:__import__": ("os",),
    "socket:create_connection": (("127.0.0.1", 9),),
}
CALLS = [(*function.split(":"), given) for functions, given in PAYLOADS.items() for function in functions.split()]
LONG = (b"X", b"\x8b", b"r", b"j", b"B", b"T", b"\x8e", b"\x8d")  # those with a length or a place
FAR = (struct.pack("<I", 2**32 - 1), struct.pack("<Q", 10**13), struct.pack("<Q", 2**63 - 1))
OPCODES = sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
ODD_OPCODES = OPCODES | builds(bytes.__add__, OPCODES, binary(max_size=4))
ODD_OPCODES |= builds(bytes.__add__, sampled_from(LONG), sampled_from(FAR))
METHODS = (*(ZIP_STORED,) * 7, ZIP_DEFLATED, ZIP_LZMA)
ROOTS = ("", "/", "../", "/etc/", "C:\\", "a/b/", "x" * 5000 + "/", "\u202e/", ".")
NAMES = ("../../canary", "/tmp/canary", "x", "data.pkl", "archive/constants.pkl")  # the last is TorchScript's
FIELDS = ((8, 2), (10, 2), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4))  # of an entry of the directory: place and size
SIZES = sampled_from((0, 1, 8, 0xFFFF, 2**31 - 1, 2**32 - 1)) | integers(0, 2**32 - 1)


class Call:
    """An object whose pickle asks that a function be called when it is read."""

    def __init__(self, function: object, *arguments: object):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def _call(draw: DrawFn) -> bytes:
    """Draw opcodes that call a payload, one way of several."""
    module, name, arguments = draw(sampled_from(CALLS))
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


def members(content: bytes) -> Parts:
    archive = zipfile.ZipFile(io.BytesIO(content))
    return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def packed(inside: Parts, method: int = ZIP_STORED, only: str = "") -> bytes:
    """Return an archive in which those members are compressed whose names end in `only`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubled names
        for name, content in inside:
            entry = zipfile.ZipInfo(name)  # without today's date
            archive.writestr(entry, content, method if name.endswith(only) else ZIP_STORED)
    return target.getvalue()


def _names_changed(file: str, container: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change the pickle of names and shapes in a torch file."""
    content = valid(file, container)
    if container == "zip":
        return packed([(n, change(inner) if n.endswith("data.pkl") else inner) for n, inner in members(content)])
    stream = io.BytesIO(content)
    for _ in range(3):  # small pickles at the beginning
        collections.deque(pickletools.genops(stream), 0)
    return content[: stream.tell()] + change(content[stream.tell() :])


def with_code(draw: DrawFn, file: str, container: str) -> bytes:
    """Put in a call: in place of a tensor, before it all, or after it all."""

    def change(names: bytes) -> bytes:
        place = max(2, draw(sampled_from((2, names.find(b"ctorch._utils"), names.rfind(b".")))))
        return names[:place] + _call(draw) + draw(sampled_from((b"0", b"", b"0N0"))) + names[place:]

    return _names_changed(file, container, change)


def opcodes(draw: DrawFn, file: str, container: str) -> bytes:
    return _names_changed(file, container, lambda names: edited(draw, names, ODD_OPCODES))


def bare_with_code(draw: DrawFn, file: str, container: str) -> bytes:
    """Return a pickle without torch's container, or one in whose container a small pickle calls."""
    head, call = b"\x80" + bytes([draw(integers(0, 5))]), _call(draw)
    parts = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    parts.insert(draw(integers(0, 3)), b"\x80\x02" + call + b".")
    return draw(sampled_from((b"".join(parts), head + call + b".", head + b"}X\1\0\0\0a" + call + b"s.")))


def _in_itself(one: torch.Tensor) -> dict:
    itself = {"latents": one}
    itself["image_proj"] = itself
    return itself


# What may stand in place of a tensor or of a dict, made of a tensor: what asks for so many bytes, which is drawn often;
# tensors of other sorts than a plain one; dicts that are very deep, in very many places, in themselves; and others.
ASKING = (
    lambda one, many: Call(bytearray, many),
    lambda one, many: Call(torch.FloatTensor, many // 4),
    lambda one, many: Call(torch.UntypedStorage, many),
    lambda one, many: Call(torch.FloatTensor, *one.shape),
    lambda one, many: torch.zeros(1).expand(many),
    lambda one, many: torch.zeros(1, dtype=one.dtype).expand(one.shape),
)
ODD = (
    *ASKING * 3,
    lambda one, many: one.float().to_sparse(),
    lambda one, many: torch.empty(one.shape, device="meta"),
    lambda one, many: torch.nn.Parameter(one),
    lambda one, many: torch.nn.Buffer(one),  # a tensor with attributes
    lambda one, many: torch.complex(one.float(), one.float()).conj(),
    lambda one, many: torch.complex(one.float(), one.float()).conj().imag,
    lambda one, many: torch.quantize_per_tensor(one.float(), 0.1, 0, torch.qint8),
    lambda one, many: one.clone().untyped_storage(),
    lambda one, many: torch.cat([one, one], -1)[..., : one.shape[-1]],
    lambda one, many: Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float16, one.shape, (0,), False),
    lambda one, many: Call(torch._utils._rebuild_tensor_v2, None, (), one, many),
    lambda one, many: collections.OrderedDict(weight=one),
    lambda one, many: dict.fromkeys((1, None, (1, 2), 1.5), one),
    lambda one, many: functools.reduce(lambda inside, _: {"a": inside}, range(300), one),
    lambda one, many: functools.reduce(lambda inside, _: {"a": inside, "b": inside}, range(60), one),
    lambda one, many: _in_itself(one),
    *(functools.partial(lambda odd, *_: odd, odd) for odd in (3, None, "text", (), b"x", {}, [1], set(range(2000)))),
)


def odd_things(draw: DrawFn, file: str, container: str) -> bytes:
    named = tensors(file)
    name, many = draw(sampled_from(sorted(named))), draw(sampled_from((2**30, 2**30, 2**34, 2**45)))
    odd = draw(sampled_from(ODD))(named[name], many)
    inside = tree({**named, name: odd})
    return pickled(draw(sampled_from((inside, inside, {**tree(named), "image_proj": odd}, odd, [inside]))), container)


# Archives: packed, doubled, nested, with names from elsewhere


def members_changed(draw: DrawFn, file: str, container: str) -> bytes:
    """Edit a member, or change names and content of several, at times in a compressed archive."""
    inside, method = members(valid(file, container)), draw(sampled_from(METHODS))
    root, odd, (one, other) = draw(sampled_from(ROOTS)), draw(sampled_from(NAMES)), draw(sampled_from(inside))
    if draw(booleans()):
        return packed([(name, edited(draw, old) if name == one else old) for name, old in inside])
    called = (lambda name: root + name.split("/", 1)[-1], lambda name: odd, str.upper, lambda name: name + "/")
    made = (bytes, lambda old: old.replace(b"little", b"big"), lambda old: other, lambda old: old[: len(old) // 2])
    new = changed(draw, inside, draw(sampled_from(called)), draw(sampled_from(made)))
    return packed(new, method, draw(sampled_from(("", "pkl"))))


@functools.cache
def _bomb(place: str) -> bytes:
    inside, large = [*members(valid("base", "zip")), ("archive/more", b"")], bytes(2**27)
    return packed([(name, large if name.endswith(place) else content) for name, content in inside], ZIP_DEFLATED)


def bomb(draw: DrawFn, file: str, container: str) -> bytes:
    """Return less than 1 MB that unpacks to 128 MB: as a tensor's numbers, as the pickle itself, or as a stranger."""
    return _bomb(draw(sampled_from(("/data/0", "data.pkl", "archive/more"))))


def inside_an_archive(draw: DrawFn, file: str, container: str) -> bytes:
    inside = members(valid(file, container))
    inner, (name, _) = packed(inside), draw(sampled_from(inside))
    for _ in range(draw(sampled_from((1, 2, 20)))):
        inner = packed([(name, inner)])
    return draw(sampled_from((inner, packed([(n, inner if n == name else content) for n, content in inside]))))


def central_directory(draw: DrawFn, file: str, container: str) -> bytes:
    content = bytearray(packed(members(valid(file, container))))
    place, (field, size) = draw(sampled_from(list(re.finditer(b"PK\1\2", content)))).start(), draw(sampled_from(FIELDS))
    content[place + field : place + field + size] = struct.pack("<I", draw(SIZES))[:size]
    content[draw(integers(-14, -1))] ^= draw(sampled_from((0, 0, 1, 128, 255)))
    return bytes(content)


PICKLES = (opcodes, with_code, bare_with_code, odd_things, odd_things, odd_things) * 2
ARCHIVES = (*(members_changed,) * 10, bomb, bomb, inside_an_archive, central_directory)
