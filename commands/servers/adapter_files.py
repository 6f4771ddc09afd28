"""The files that adapters' names stand for on servers: one that was trained anew under its old name is another one."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from pathlib import Path

from .client import Client, ClientError
from .journal import write_file

DIGEST_ROUTE = "/ipadapter_instruct/digest"
NOTED = "adapters.json"


class Adapters:
    """SHA-256 of each adapter's file, by its name: alike on all servers, and noted for when none is asked.

    folder: of the images that were made with them.
    """

    def __init__(self, folder: Path, names: Collection[str]):
        self.path, self.names = folder / NOTED, sorted(names)
        self.told: dict[str, str] = {}
        self.lock = threading.Lock()

    def meet(self, client: Client) -> None:
        """Ask a server for the digests. Raises ClientError for one that has other files than those asked before."""
        told = {name: client.get(DIGEST_ROUTE, adapter=name)["sha256"] or "" for name in self.names}
        with self.lock:
            others = [name for name in told if self.told.setdefault(name, told[name]) != told[name]]
        if others:
            raise ClientError(
                f"{client.url} was expected to have the same {', '.join(others)} as the other servers; it has another "
                "file of that name, or none. Copy it there, or leave this server out."
            )

    def digests(self) -> dict[str, str]:
        """Return the digests by name, as servers have told them, and note them; else as they were noted."""
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            noted = {}
        if self.told and noted | self.told != noted:
            write_file(json.dumps(noted | self.told, indent=1).encode(), self.path)
        return noted | self.told
