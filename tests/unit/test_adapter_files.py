"""The files of adapters on several servers: told apart by content, and noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from ipadapter_instruct.commands.servers.adapter_files import Adapters
from ipadapter_instruct.commands.servers.client import ClientError


@dataclass
class Told:
    """A server's word on its files, by their names."""

    url: str
    digests: Mapping[str, str | None]

    def get(self, path: str, adapter: str) -> dict:
        return {"sha256": self.digests.get(adapter)}


def test_servers_with_the_same_files_are_taken_and_noted(tmp_path: Path):
    adapters = Adapters(tmp_path, {"a", "b"})
    for url in ("one", "two"):
        adapters.meet(Told(url, {"a": "1", "b": "2", "c": "3"}))
    assert adapters.digests() == {"a": "1", "b": "2"}
    assert Adapters(tmp_path, {"a"}).digests() == {"a": "1", "b": "2"}, "without a server, what was noted"
    anew = Adapters(tmp_path, {"a"})
    anew.meet(Told("one", {"a": "4"}))
    assert anew.digests() == Adapters(tmp_path, {"b"}).digests() == {"a": "4", "b": "2"}


@pytest.mark.parametrize("other", ["2", None])
def test_a_server_that_has_another_file_of_the_name_is_not_used(tmp_path: Path, other: str | None):
    adapters = Adapters(tmp_path, {"a", "b"})
    adapters.meet(Told("one", {"a": "1", "b": "2"}))
    with pytest.raises(ClientError, match="^two was expected to have the same a as the other servers; .* Copy it"):
        adapters.meet(Told("two", {"a": other, "b": "2"}))
    assert adapters.digests() == {"a": "1", "b": "2"}
