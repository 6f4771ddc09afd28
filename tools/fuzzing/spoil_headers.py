"""Headers of .safetensors files that say what is not so."""

from __future__ import annotations

import json
import struct

from hypothesis.strategies import DrawFn, dictionaries, integers, just, lists, sampled_from

from fuzzing.spoil_tensors import PARTS, changed
from fuzzing.valid_files import valid

METADATA = "__metadata__"
NUMBERS = sampled_from(
    (0, 1, -1, 3, 2**31, 2**32 + 1, 2**62, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, 1e300, True, None, "4", [4], {})
)
# Their product passes 2^64, to 0 or to the right number of bytes.
OVERFLOWING = sampled_from(([2**32, 2**32], [2**63, 2], [2**16] * 4, [2**64 - 1, 2], [2**40, 2**40, 0], [0, 2**62]))
DTYPES = "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 C64 I64 I32 I16 I8 U8 BOOL F4 F6_E2M3 F6_E3M2 F8_E8M0 U16 U32 U64 f16 FLOAT"
NAMES = ("", ".", "..", "a" * 100_000, "\0", "\u202e", "\x1b[31m", METADATA, "\ud800")
WORDS = sampled_from((1, None, [], {}, {"a": {}}, "text", True, "x" * 100_000, "\0", "2"))
WORD_NAMES = sampled_from(("kind", "pack", "version", "family", "adapter", "recognition"))
MOVED = sampled_from((-8, -1, 1, 8, 2**40))
NOT_JSON = (*(letter.encode() for letter in '{}[],:"x \0'), b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80")
ODD_NUMBERS = (b"NaN", b"Infinity", b"-0", b"1e999", b"0x10", b"00", b"9" * 5000, b"1.0", b"1e2")
OTHER_VALUES = (b"[]", b"null", b"{", b"{}", b"3", b'"a"', b"", b" ", b"\xef\xbb\xbf{}")


def _entry(draw: DrawFn, one: dict) -> object:
    """Change what is said of one tensor."""
    if "shape" not in one:
        return draw(WORDS | dictionaries(WORD_NAMES, WORDS))
    key, by, (start, end) = draw(sampled_from(sorted(one))), draw(MOVED), one["data_offsets"]
    near = ([start + by, end + by], [start, end + by], [end, start], [0, end - start], [start], [start, end, end])
    sizes = list(one["shape"])
    sizes[draw(integers(0, len(sizes) - 1))] = draw(NUMBERS)
    odd = {
        "shape": just(sizes) | just(sizes) | OVERFLOWING | just([1] * 200) | lists(NUMBERS, max_size=4) | NUMBERS,
        "data_offsets": sampled_from(near) | sampled_from(near) | lists(NUMBERS, max_size=3) | NUMBERS,
        "dtype": sampled_from((*DTYPES.split(), "", 3, None, ["F16"])),
    }
    new, rest = {**one, key: draw(odd[key])}, {name: value for name, value in one.items() if name != key}
    nothing = {**one, "shape": draw(OVERFLOWING), "data_offsets": [start, start]}
    others = (nothing, rest, {**rest, key + "\0": one[key]}, {**one, "": 1}, [one], {"a": one}, draw(NUMBERS), "text")
    return draw(just(new) | just(new) | sampled_from(others))


def _structure(draw: DrawFn, way: str, head: dict) -> bytes:
    """Change the header's entries, of which there may be two of a name then."""
    odd = draw(sampled_from(NAMES))
    called = draw(sampled_from((lambda name: odd, lambda name: odd, lambda name: name * 2, lambda name: name + ".")))
    entries = changed(draw, way, list(head.items()), called, lambda one: _entry(draw, one))
    return ("{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in entries) + "}").encode()


def _metadata(draw: DrawFn, head: dict) -> bytes:
    said = dictionaries(WORD_NAMES, WORDS, min_size=1, max_size=2)
    more = said.map(lambda words: {**head.get(METADATA, {}), **words})
    odd = draw(WORDS | said | more | more | just({f"word {i}": "x" for i in range(2000)}))
    return json.dumps({**head, METADATA: odd}).encode()


def _odd_text(draw: DrawFn, head: dict) -> bytes:
    """Write a header that is no JSON, or JSON as Python's writer would not write it."""
    text = json.dumps(head).encode()
    place, depth = draw(integers(0, len(text))), 10 ** draw(sampled_from((2, 4, 6)))
    digit = draw(sampled_from([i for i, letter in enumerate(text) if letter in b"0123456789"]))
    around = (b"[" + text + b"]", b" " + text, text + b"\n\t  ", text + b"\0" * 8, b"{" + text)
    deep = (b"[" * depth + b"1" + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth)
    return draw(
        sampled_from(NOT_JSON).map(lambda odd: text[:place] + odd + text[place:])
        | sampled_from(NOT_JSON).map(lambda odd: text[:place] + odd + text[place + 1 :])
        | sampled_from(ODD_NUMBERS).map(lambda odd: text[:digit] + odd + text[digit + 1 :])
        | sampled_from(deep).map(lambda value: b'{"a": ' + value + b", " + text[1:])
        | sampled_from((*around, *OTHER_VALUES))
    )


WAYS = (*PARTS, *PARTS, "metadata", *("odd text",) * 6, *("length",) * 2)


def spoilt(draw: DrawFn, way: str, file: str, container: str) -> bytes:
    content = valid(file, container)
    size = 8 + struct.unpack("<Q", content[:8])[0]
    head, body = json.loads(content[8:size]), content[size:]
    if way == "length":
        near = (0, 1, size - 17, size - 9, size - 7, size + 1, len(content) - 8, size + 2**20)
        said = draw(sampled_from((*near, 100_000_001, 10 * 2**30, 2**63, 2**64 - 1)))
        return struct.pack("<Q", said) + content[8:]
    if way in PARTS:
        text = _structure(draw, way, head)
    else:
        text = _metadata(draw, head) if way == "metadata" else _odd_text(draw, head)
    return struct.pack("<Q", len(text)) + text + body
