"""Pairs in webdataset shards, which cli.py train reads as it does a folder."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

SHARDS = "shards"


def write_shards(folder: Path, lines: list[dict], pairs_each: int) -> None:
    """Write a folder of shards with so many pairs each, in place of those that are there: the whole of it or nothing.

    folder: where the pictures are that the lines name.
    """
    made = Path(tempfile.mkdtemp(prefix=f"{SHARDS}-", dir=folder))
    try:
        for start in range(0, len(lines), pairs_each):
            shard = made / f"{start // pairs_each:06d}.tar"
            with tarfile.open(shard, "w") as tar:
                for number, line in enumerate(lines[start : start + pairs_each], start):
                    add_pair(tar, folder, f"{number:08d}", line)
        shutil.rmtree(folder / SHARDS, ignore_errors=True)
        made.chmod(0o755)
        made.rename(folder / SHARDS)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def add_pair(tar: tarfile.TarFile, folder: Path, key: str, line: Mapping[str, object]) -> None:
    """Add a pair's two pictures, and its texts as JSON. Nothing in it says when it was written."""
    for field in ("reference", "target"):
        name = str(line[field])
        add(tar, f"{key}.{field}{Path(name).suffix}", (folder / name).read_bytes())
    texts = {name: value for name, value in line.items() if name not in ("reference", "target")}
    add(tar, f"{key}.json", json.dumps(texts, ensure_ascii=False).encode("utf-8"))


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
