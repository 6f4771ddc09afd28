"""Files spoilt without knowing what they are: cut short, bits turned, parts moved."""

from __future__ import annotations

import random
from collections.abc import Callable


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.choice((rng.randrange(len(content)), rng.randrange(min(len(content), 2000))))]


def beheaded(rng: random.Random, content: bytes) -> bytes:
    return content[rng.randrange(1, min(len(content), 200)) :]


def bits(rng: random.Random, content: bytes) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def bits_in_front(rng: random.Random, content: bytes) -> bytes:
    """Spoil bits where headers and pickles are."""
    front = min(len(content), rng.choice((16, 300, 3000)))
    return bits(rng, content[:front]) + content[front:]


def bits_at_the_end(rng: random.Random, content: bytes) -> bytes:
    """Spoil bits where an archive's directory is."""
    start = max(0, len(content) - rng.choice((30, 300, 3000)))
    return content[:start] + bits(rng, content[start:])


def bytes_replaced(rng: random.Random, content: bytes) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 100, 1000))
    filling = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return content[:start] + filling + content[start + length :]


def inserted(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.choice((1, 3, 8, 100))) + content[start:]


def removed(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 3, 8, 100)) :]


def repeated(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    part = content[start : start + rng.choice((1, 8, 64, 1000))]
    return content[:start] + part * rng.choice((2, 3, 20)) + content[start:]


def prolonged(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((b"\0" * 1000, content, rng.randbytes(50), b"\n"))


SPOILT: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bytes: cut short": cut,
    "bytes: beginning gone": beheaded,
    "bytes: bits turned": bits,
    "bytes: bits turned in front": bits_in_front,
    "bytes: bits turned at the end": bits_at_the_end,
    "bytes: replaced": bytes_replaced,
    "bytes: inserted": inserted,
    "bytes: removed": removed,
    "bytes: repeated": repeated,
    "bytes: prolonged": prolonged,
}
