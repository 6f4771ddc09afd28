"""Pictures, and adapters of the small models that read what CLIP itself makes of pictures and texts."""

from __future__ import annotations

import torch
from ipadapter_instruct.models.adapter.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.denoisers.denoiser import denoiser_of
from ipadapter_instruct.models.denoisers.model_view import ModelView
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoder
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode

from support import small_encoders, small_files, small_models
from support.pack_nodes import run_node
from support.sampling.short_runs import same

POSE, COLOUR = "use the pose", "use the colour"
PICTURES = torch.rand(40, 30, 40, 3, generator=torch.Generator().manual_seed(0))
PROMPTS = {"prompt": "a dog", "negative_prompt": "blurry"}


def readable_adapter(family: str, factor: float = 1.0) -> LoadedAdapter:
    """An adapter for the small model, with `factor` on its weights."""
    made = small_models.FAMILIES[family].family
    sites = denoiser_of(made).sites(ModelView(small_models.small_model(family)))
    tensors = small_files.adapter_tensors(family, [site.width for site in sites], sites[0].context_width)
    parts = [
        {name.removeprefix(prefix): factor * w for name, w in tensors.items() if name.startswith(prefix)}
        for prefix in ("image_proj.", "ip_adapter.")
    ]
    parts[0] = {name.replace("_big.", "."): weight for name, weight in parts[0].items()}
    return LoadedAdapter(f"{family}.safetensors", AdapterCheckpoint(made, *parts))


def image_encoder(patches: int = 2):
    """ViT-H's width, and two layers of 32."""
    return small_encoders.clip_vision(width=1280, layers=2, patches=patches)


def prompts_for(adapter: LoadedAdapter) -> dict:
    """What all nodes that encode are given."""
    return {"adapter": AdapterWithEncoder(adapter, None), "clip": small_encoders.small_clip(), **PROMPTS}


def encode(adapter: LoadedAdapter, clip_vision, /, **changes) -> InstructEmbeds:
    inputs = {"image": PICTURES[:1], "instruction": POSE, "clip_vision": clip_vision, **prompts_for(adapter), **changes}
    return run_node(IPAdapterInstructEncode, **inputs).args[0]


def same_embeds(found: InstructEmbeds, expected: InstructEmbeds) -> None:
    for branch, tokens in expected.image_tokens.items():
        same(found.image_tokens[branch], tokens)
    assert (found.token_weights is None) == (expected.token_weights is None)
    if expected.token_weights is not None:
        same(found.token_weights, expected.token_weights)


class Runs:
    """The batch size of every run of an image encoder, or of another module that is given pictures."""

    def __init__(self, encoder):
        self.sizes: list[int] = []
        getattr(encoder, "model", encoder).register_forward_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs, output):
        self.sizes.append(len([*args, *kwargs.values()][0]))
