"""An adapter's file that is replaced while the server runs: the next run takes what is there now."""

from __future__ import annotations

import files
from comfyhost.client import Client


def loader_said(client: Client, name: str) -> list[str]:
    """What the loader says of the file in a run; nothing where its last result is kept."""
    graph = {
        "1": {"class_type": "IPAdapterInstructLoader", "inputs": {"adapter_name": name, "image_encoder": "auto"}},
        "2": {
            "class_type": "IPAdapterInstructTask",
            "inputs": {"adapter": ["1", 0], "task": "style", "phrasing": "plain", "seed": 0},
        },
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    return client.run(graph).outputs.get("1", {}).get("text", [])[:1]


def test_a_run_takes_the_file_that_is_there_now_and_reads_it_once(client, models):
    path = models / "ipadapter" / "replaced.safetensors"
    for family, title in (("sd15", "SD1.5"), ("sdxl", "SDXL"), ("sd15", "SD1.5")):
        files.save_adapter(files.adapter_tensors(family), path.with_suffix(".new.safetensors"))
        path.with_suffix(".new.safetensors").replace(path)
        assert loader_said(client, path.name) == [f"IPAdapter-Instruct for {title}"]
        assert loader_said(client, path.name) == []
