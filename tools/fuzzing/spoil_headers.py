"""Headers of .safetensors files that say what is not so, or are no JSON, or such as Python's writer does not write."""

import json
import re
import struct

from hypothesis.strategies import DrawFn, just, sampled_from

from fuzzing.valid_files import header_of, valid, with_header

# What is replaced: names and words, numbers, shapes and places, what is said of a tensor, without its name or with it.
KINDS = (
    rb'"[^"]*"',
    rb"\d+",
    rb"\d+",
    rb"\[[^]]*\]",
    rb"\[[^]]*\]",
    rb"\{[^{}]*\}",
    rb'"[^"]*": \{[^{}]*\},',
    rb"\W|^|$",
)
NUMBERS = (0, 1, -1, 3, 2**31, 2**32 + 1, 2**62, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, 1e300, True, None, [4], {})
DTYPES = "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 C64 I64 I32 I16 I8 U8 BOOL F4 F6_E2M3 F6_E3M2 F8_E8M0 U16 U32 U64 f16 FLOAT"
NAMES = ("", ".", "..", "a" * 100_000, "\0", "\u202e", "\x1b[31m", "__metadata__", "\ud800", "dtype", "shape", "4", "2")
# Their product passes 2^64, to 0 or to the right number of bytes.
OVERFLOWING = ([2**32, 2**32], [2**63, 2], [2**16] * 4, [2**64 - 1, 2], [2**40, 2**40, 0], [0, 2**62], [1] * 200)
EMPTY = [{"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for shape in OVERFLOWING]
METADATA = [
    *({name: said} for name in ("kind", "version", "family", "recognition") for said in (1, {}, "text", "x" * 100_000)),
    {f"word {i}": "x" for i in range(2000)},
]
NOT_JSON = (
    *(b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"x", b" ", b"\0", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80"),
    *(b"NaN", b"Infinity", b"-0", b"1e999", b"0x10", b"00", b"9" * 5000, b"1.0", b"1e2", b"\xef\xbb\xbf{}"),
    *(
        before * depth + b"1" + behind * depth
        for depth in (100, 10**6)
        for before, behind in ((b"[", b"]"), (b'{"":', b"}"))
    ),
)


def _moved(numbers: bytes, by: int) -> bytes:
    return re.sub(rb"\b\d{1,20}\b", lambda number: str(int(number[0]) + by).encode(), numbers)


def header_edited(draw: DrawFn, file: str, container: str) -> bytes:
    """Replace a part of the header by an odd one, or by another that the header has."""
    head, body = header_of(valid(file, container))
    text = json.dumps({"__metadata__": draw(sampled_from(METADATA)), **head} if draw(EVERY_FOURTH) else head).encode()
    for _ in range(draw(sampled_from((1, 1, 1, 2)))):
        places = [found.span() for found in re.finditer(draw(sampled_from(KINDS)), text)] or [(0, len(text))]
        (start, end), (other, its_end) = draw(sampled_from(places)), draw(sampled_from(places))
        moved = [_moved(text[start:end], by) for by in (-8, -1, 1, 8, 2**40)]
        text = text[:start] + draw(ODD | just(text[other:its_end]) | sampled_from(moved)) + text[end:]
    return with_header(text, body)


def header_length(draw: DrawFn, file: str, container: str) -> bytes:
    content = valid(file, container)
    size = 8 + int.from_bytes(content[:8], "little")
    near = (0, 1, size - 17, size - 9, size - 7, size + 1, len(content) - 8, size + 2**20)
    said = draw(sampled_from((*near, 100_000_001, 10 * 2**30, 2**63, 2**64 - 1)))
    return struct.pack("<Q", said) + content[8:]


EVERY_FOURTH = sampled_from((True, False, False, False))
ODD = sampled_from([json.dumps(one).encode() for one in (*NUMBERS, *NAMES, *DTYPES.split())])
ODD |= sampled_from([json.dumps(one).encode() for one in (*OVERFLOWING, *EMPTY, *METADATA)]) | sampled_from(NOT_JSON)
SPOILERS = (*(header_edited,) * 12, header_length)
