"""The shipped blueprints without a page: what is inside one does what the three nodes of instruct_sd15 do."""

from __future__ import annotations

import pytest
from comfyhost.prompt_builder import ApiPrompt
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from ipadapter_instruct.commands.servers.client import Client
from safetensors.torch import load
from shipped.blueprints import TASKS
from support.with_blueprint import with_blueprint

ENCODE = "IPAdapterInstructEncode"


def latents(client: Client, prompt: ApiPrompt) -> bytes:
    """Run the prompt anew; its latents' bytes."""
    client.post("/free", unload_models=True, free_memory=True)
    prompt = prompt.with_node("latents", "SaveLatent", samples=[prompt.id("KSampler"), 0], filename_prefix="latents")
    (file,) = client.run(prompt).outputs["latents"]["latents"]
    return load(client.download(file))["latent_tensor"].numpy().tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_a_blueprint_gives_the_same_latents_as_its_three_nodes(client: Client, object_info, shrink, shipped, name: str):
    inside = shrink(to_prompt(with_blueprint(name), object_info))
    words = {key: inside.inputs(ENCODE)[key] for key in ("task", "instruction", "prompt", "negative_prompt")}
    assert (words["task"], words["instruction"]) == (TASKS[name], f"use the {TASKS[name]}")
    assert latents(client, inside) == latents(client, shrink(shipped).changed(ENCODE, **words))
