"""Prompts with an Instruct Grid, made of one for a single picture."""

from __future__ import annotations

from comfyhost.prompt_builder import ApiPrompt

ENCODE, APPLY = "IPAdapterInstructEncode", "IPAdapterInstructApply"
GRID = "IPAdapterInstructGrid"
SAMPLER = "KSampler"
INSTRUCTIONS = ("use the style", "use the composition")
WEIGHTS = (0.4, 0.9)
CELLS = [(instruction, weight) for instruction in INSTRUCTIONS for weight in WEIGHTS]


def grid_of(single: ApiPrompt, **changes) -> ApiPrompt:
    """The prompt with an Instruct Grid in the place of Encode, Apply, KSampler and VAEDecode, of the same settings."""
    encode, apply, sampler = (single.inputs(kind) for kind in (ENCODE, APPLY, SAMPLER))
    apply = {name: apply[name] for name in ("model", "weight", "guidance", "instruct_guidance", "image_guidance")}
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    inputs = {
        **{name: encode[name] for name in ("adapter", "clip", "image", "instruction", "prompt", "negative_prompt")},
        **apply,
        **{name: sampler[name] for name in names},
        "latent": sampler["latent_image"],
        "vae": single.inputs("VAEDecode")["vae"],
        "rows": "instruction",
        "row_values": "\n".join(INSTRUCTIONS),
        "columns": "weight",
        "column_values": ", ".join(map(str, WEIGHTS)),
    }
    graph = single.with_node("grid", GRID, **{**inputs, **changes})
    saved = graph.id("SaveImage")
    kept = {
        node_id: node
        for node_id, node in graph.items()
        if node["class_type"] not in (ENCODE, APPLY, SAMPLER, "VAEDecode")
    }
    graph = ApiPrompt(kept).changed("SaveImage", images=["grid", 1])
    return graph.with_node("sheet", "SaveImage", **{**graph[saved]["inputs"], "images": ["grid", 0]})
