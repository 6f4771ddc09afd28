"""Headers of .safetensors files that say what is not so."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping

from torch import Tensor

from fuzzing.seeds import DTYPES, framed, header

Header = dict
HUGE = 10 * 2**30
NUMBERS = (0, 1, -1, 3, 2**31, 2**32 + 1, 2**62, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, 1e300, True, None, "4", [4], {})
NOT_UTF8 = (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x00")


def entry(rng: random.Random, head: Header) -> dict:
    return head[rng.choice([name for name in head if name != "__metadata__"])]


def shape(rng: random.Random, head: Header) -> None:
    one = entry(rng, head)
    sizes = list(one["shape"])
    sizes[rng.randrange(len(sizes))] = rng.choice(NUMBERS)
    random_shape = [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    one["shape"] = rng.choice((sizes, sizes, random_shape, rng.choice(NUMBERS), [sizes], [1] * 200))


def offsets(rng: random.Random, head: Header) -> None:
    one = entry(rng, head)
    start, end = one["data_offsets"]
    moved = rng.choice((-8, -1, 1, 8, 2**40))
    one["data_offsets"] = rng.choice(
        (
            [start + moved, end + moved],
            [start, end + moved],
            [end, start],
            [0, end - start],
            [rng.choice(NUMBERS), rng.choice(NUMBERS)],
            [start],
            [start, end, end],
            rng.choice(NUMBERS),
        )
    )


def overflowing(rng: random.Random, head: Header) -> None:
    """Give a tensor sizes whose product passes 2^64, to 0 or to the right number of bytes."""
    one = entry(rng, head)
    one["shape"] = rng.choice(([2**32, 2**32], [2**63, 2], [2**16] * 4, [2**64 - 1, 2], [2**40, 2**40, 0], [0, 2**62]))
    if rng.random() < 0.5:
        one["data_offsets"] = [one["data_offsets"][0]] * 2


def dtype(rng: random.Random, head: Header) -> None:
    names = (*DTYPES, "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "U16", "U32", "U64", "f16", "", "FLOAT", 3, None, ["F16"])
    entry(rng, head)["dtype"] = rng.choice(names)


def keys(rng: random.Random, head: Header) -> None:
    one = entry(rng, head)
    if rng.random() < 0.5:
        one.pop(rng.choice(list(one)))
    else:
        one[rng.choice(("extra", "", "dtype ", "shape\0"))] = rng.choice(NUMBERS)


def names(rng: random.Random, head: Header) -> None:
    name = rng.choice(list(head))
    odd = ("", ".", "..", "a" * 100_000, "\0", "\u202e", "\x1b[31m", "__metadata__", "\ud800", name * 2, name + ".")
    head[rng.choice(odd)] = head.pop(name)


def metadata(rng: random.Random, head: Header) -> None:
    words = (1, None, [], {}, {"a": {}}, "text", True, "x" * 100_000, "\0", "2")
    head["__metadata__"] = rng.choice(
        (
            rng.choice(words),
            {rng.choice(("kind", "pack", "version", "family", "recognition")): rng.choice(words)},
            {
                **(head.get("__metadata__") or {}),
                rng.choice(("kind", "version", "adapter", "family")): rng.choice(words),
            },
            {f"word {i}": "x" for i in range(2000)},
        )
    )


def replaced(rng: random.Random, head: Header) -> None:
    name = rng.choice(list(head))
    head[name] = rng.choice((*NUMBERS, [head[name]], {"a": head[name]}, "text"))


def nothing(rng: random.Random, head: Header) -> None:
    head.clear()


STRUCTURE: dict[str, Callable[[random.Random, Header], None]] = {
    "header: shape": shape,
    "header: offsets": offsets,
    "header: overflowing sizes": overflowing,
    "header: dtype": dtype,
    "header: keys of a tensor": keys,
    "header: names": names,
    "header: metadata": metadata,
    "header: a value replaced": replaced,
    "header: empty": nothing,
}


def twice(rng: random.Random, text: str) -> bytes:
    """Write one key twice, which a Python dict cannot hold."""
    one = text[1:-1].split("}, ")[0] + "}"
    return f"{{{one}, {text[1:]}".encode()


def deep(rng: random.Random, text: str) -> bytes:
    depth = rng.choice((100, 200, 10_000, 1_000_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    return f'{{"a": {opened * depth}1{closed * depth}, {text[1:]}'.encode()


def not_utf8(rng: random.Random, text: str) -> bytes:
    place = rng.randrange(len(text))
    return text[:place].encode() + rng.choice(NOT_UTF8) + text[place:].encode()


def numbers(rng: random.Random, text: str) -> bytes:
    """Write numbers that JSON knows and Python's writer would not write."""
    place = rng.choice([i for i, letter in enumerate(text) if letter.isdigit()])
    odd = rng.choice(("NaN", "Infinity", "-0", "1e999", "0x10", "00", "9" * 5000, "1.0", "1e2"))
    return f"{text[:place]}{odd}{text[place + 1 :]}".encode()


def json_broken(rng: random.Random, text: str) -> bytes:
    place = rng.randrange(len(text))
    return (text[:place] + rng.choice('{}[],:"x ') + text[place + rng.randrange(2) :]).encode()


def not_an_object(rng: random.Random, text: str) -> bytes:
    return rng.choice((b"[]", b"null", b"{", b"{}", b"3", b'"a"', b"", b" ", f"[{text}]".encode(), b"\xef\xbb\xbf{}"))


def padded(rng: random.Random, text: str) -> bytes:
    return rng.choice(
        (b" " + text.encode(), text.encode() + b"\n\t  ", text.encode() + b"\0" * 8, b"{" + text.encode())
    )


TEXT: dict[str, Callable[[random.Random, str], bytes]] = {
    "header: a key twice": twice,
    "header: deep nesting": deep,
    "header: not UTF-8": not_utf8,
    "header: odd numbers": numbers,
    "header: JSON broken": json_broken,
    "header: no object": not_an_object,
    "header: padding": padded,
}
LENGTH = "header: length"


def spoilt(rng: random.Random, what: str, named: Mapping[str, Tensor], words: Mapping[str, object] | None) -> bytes:
    """A .safetensors file of these tensors with a header spoilt in one way."""
    entries, body = header(named, words)
    if what in STRUCTURE:
        STRUCTURE[what](rng, entries)
        return framed(json.dumps(entries).encode(), body)
    text = json.dumps(entries)
    if what in TEXT:
        return framed(TEXT[what](rng, text), body)
    length = len(text) + rng.choice((-len(text), -9, -1, 1, 9, len(body), 2**20, 100_000_001))
    length = rng.choice((length, length, HUGE, 2**63, 2**64 - 1, 0, 1))
    return struct.pack("<Q", length) + text.encode() + body


KINDS = (*STRUCTURE, *TEXT, LENGTH)
