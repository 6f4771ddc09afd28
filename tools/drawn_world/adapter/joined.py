"""Join what was trained to read and what was trained to write to an adapter's file.

PYTHONPATH=tools python -m drawn_world.adapter.joined NAME...
"""

from __future__ import annotations

import sys
from pathlib import Path

from ipadapter_instruct.models.adapter.trained_files import write_adapter
from ipadapter_instruct.models.families import SD3
from ipadapter_instruct.models.training.trainable_adapter import named_as_published

from drawn_world.adapter.writing import NAME as WRITING
from drawn_world.files import adapter_name
from drawn_world.storage import world_folder
from drawn_world.training import trained_state


def join(name: str) -> Path:
    """Write the adapter whose resampler has this name; its file. Raises FileNotFoundError."""
    reading, writing = trained_state(f"reading-{name}"), trained_state(WRITING)
    resampler = {f"image_projection.{part}": weight for part, weight in reading["model"].items()}
    weights = named_as_published(SD3, {**resampler, **writing["ema"]})
    path = world_folder() / adapter_name(name)
    write_adapter(weights, path, f"in the drawn world, {reading['step']} steps to read and {writing['step']} to write")
    return path


def main() -> int:
    for name in sys.argv[1:]:
        print(join(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
