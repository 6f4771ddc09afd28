"""Pictures, and adapters of the small models that read what CLIP itself makes of pictures and texts."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io
from ipadapter_instruct.models.adapter.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.denoisers.denoiser import denoiser_of
from ipadapter_instruct.models.denoisers.model_view import ModelView
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.encoding.references import References
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from ipadapter_instruct.nodes.main.reference import IPAdapterInstructReference

from support import small_encoders, small_files, small_models
from support.pack_nodes import run_node
from support.sampling.short_runs import same

POSE, COLOUR = "use the pose", "use the colour"
IMAGES = torch.rand(40, 30, 40, 3, generator=torch.Generator().manual_seed(0))
OF_REFERENCE = (
    "negative_instruction",
    "weight",
    "combine",
    "image_mask",
    "fit",
    "face",
    "face_structure",
    "clip_vision_output",
    "embeds",
    "neg_embeds",
)
LOADERS = ("clip_vision", "instruct_clip")
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


def inputs_for(adapter: LoadedAdapter | AdapterWithEncoders, clip_vision=None, instruct_clip=None) -> dict:
    """The inputs of Encode besides references: an instruction of one's own counts. Encoders: the loader's."""
    loaded = adapter if isinstance(adapter, AdapterWithEncoders) else AdapterWithEncoders(adapter)
    loaded = replace(loaded, clip_vision=clip_vision, instruct_clip=instruct_clip)
    return {"adapter": loaded, "clip": small_encoders.small_clip(), "task": OWN_WORDS, "instruction": POSE, **PROMPTS}


ROW = {"instruction": "", "negative_instruction": "", "weight": 1.0, "combine": "concat"}


def row_of(*settings: dict, **alike) -> References:
    """The references of a row of Instruct Reference nodes. settings: each node's own; alike: what all have."""
    row = None
    for each in settings:
        row = run_node(IPAdapterInstructReference, **{**ROW, **alike, **each}, references=row).args[0]
    return row


def encoded(adapter: LoadedAdapter | AdapterWithEncoders, clip_vision, /, **changes) -> io.NodeOutput:
    """Encode Instruct Prompt's output for IMAGES[0], or other references.

    changes: Encode's inputs, and the loader's encoders; with any of Instruct Reference's, the reference is of that.
    """
    loaders = {"clip_vision": clip_vision, **{name: changes.pop(name) for name in LOADERS if name in changes}}
    own = {name: changes.pop(name) for name in OF_REFERENCE if name in changes}
    references = {"image": changes.pop("image", IMAGES[:1])}
    if "references" in changes:
        references = {}
    elif any(value is not None for value in own.values()):
        references = {"references": row_of({**references, **own})}
    return run_node(IPAdapterInstructEncode, **{**inputs_for(adapter, **loaders), **references, **changes})


def encode(adapter: LoadedAdapter, clip_vision, /, **changes) -> InstructEmbeds:
    return encoded(adapter, clip_vision, **changes).args[0]


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
