"""The memory that a server holds once it is quiet: caches dropped, garbage collected, freed pages given back."""

import time
from dataclasses import dataclass
from pathlib import Path

from ipadapter_instruct.commands.servers.client import Client

QUIET_SECONDS, LONGEST_SECONDS = 1.5, 30
# What is measured should be what is held. Otherwise glibc keeps what threads have freed in arenas of their own, and
# comes to take large pieces, whose end leaves holes, from the heap; a fixed threshold gives each its own mapping.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}


@dataclass(frozen=True)
class Level:
    """The memory after so many prompts. anonymous: the process's share, in MB, of memory that no file stands behind."""

    prompts: int
    anonymous: float
    alive: dict[str, float]

    def __str__(self) -> str:
        alive = ", ".join(f"{name} {count}" for name, count in self.alive.items())
        return f"after {self.prompts} prompts: {self.anonymous:.0f} MB anonymous ({alive})"


def level(client: Client, pid: int, prompts: int) -> Level:
    """Bring an idle server to rest as a user would, without models, results and the list of past prompts; measure."""
    client.post("/history", clear=True)
    end = time.monotonic() + LONGEST_SECONDS
    while True:
        # It sets two flags one after the other; a worker that wakes between them sleeps on with the second.
        client.post("/free", unload_models=True, free_memory=True)
        time.sleep(QUIET_SECONDS)  # its worker thread drops models and results, and collects garbage
        alive = client.do(client.request("GET", "/soak/settle"))
        if not alive["models"] or time.monotonic() > end:
            break
    sizes = rollup(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    return Level(prompts, sizes["Pss_Anon"] / 1000, alive)


def rollup(text: str) -> dict[str, float]:
    """Linux's sums over a process's mappings, in kB of 1,000 bytes."""
    rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1.024 for name, size, _ in rows}
