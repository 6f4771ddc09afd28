"""Pictures by an adapter in the small world: the pack's nodes and ComfyUI's sampler, many conditions in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ipadapter_instruct.models.encoding.combining import CONCAT
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.image_encoder import encode_pixels
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.encoding.pixels import CENTER_CROP, pixel_values
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from ipadapter_instruct.nodes.main.reference import IPAdapterInstructReference
from torch import Tensor

from small_world.check_encoders import short_image_encoder
from small_world.conditions import Condition
from small_world.encoders import ENCODERS
from small_world.files import checkpoint
from small_world.in_process import comfy
from small_world.references import blank_hidden_states
from small_world.sampling import Conditioning, World, sample

BATCH = 50
LAYERS = 2  # of the text encoder, whose later ones pass their input on
CFG, SEED = 4.0, 100
STEPS = 10  # half of the demo's, for as good pictures as these


@dataclass(frozen=True)
class Setting:
    """How an adapter is applied. instruct, image: three-way guidance's scales beside the sampler's cfg."""

    weight: float = 1.0
    guidance: str = "simple"
    instruct: float = CFG
    image: float = 1.0
    steps: int = STEPS

    def __str__(self) -> str:
        return f"{self.guidance}, weight {self.weight:g}"


def short_world() -> World:
    """The world without those layers of the text encoder that do nothing."""
    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint()), output_clip=False)
    clip = comfy.sd.load_clip([str(ENCODERS["text"].built())], clip_type=comfy.sd.CLIPType.SD3)
    encoder = clip.cond_stage_model.clip_l.transformer.text_model.encoder
    encoder.layers = encoder.layers[:LAYERS]
    return World(model, clip, vae)


@dataclass(frozen=True)
class Encoded:
    """A batch of conditions as *Encode* gives them: the embeds, for any weight and guidance, and the prompts."""

    embeds: Any  # EncodedEmbeds
    positive: Conditioning
    negative: Conditioning


class Transfer:
    """Samples conditions with adapters. References are encoded once."""

    def __init__(self, world: World):
        self.world, self.blank = world, blank_hidden_states()
        self.encoder = short_image_encoder(ENCODERS["picture"].built())

    @torch.inference_mode()
    def hidden_states(self, tried: Sequence[Condition]) -> list[Tensor]:
        """Of each condition's reference, [1, 257, 1280]."""
        pictures = torch.from_numpy(np.stack([condition.picture for condition in tried])).float()
        batches = [pixel_values(self.encoder, rows, None, CENTER_CROP) for rows in pictures.split(16)]
        hidden_states = [encode_pixels(self.encoder, pixels).hidden_states for pixels in batches]
        return list(torch.cat(hidden_states).split(1))

    @torch.inference_mode()
    def encoded(self, adapter: Path, tried: Sequence[Condition], hidden_states: Sequence[Tensor]) -> list[Encoded]:
        """Conditions in batches."""
        loaded = AdapterWithEncoders(LoadedAdapter.read(adapter))
        each = [self._encoded(loaded, c, s) for c, s in zip(tried, hidden_states, strict=True)]
        return [joined(each[at : at + BATCH]) for at in range(0, len(each), BATCH)]

    @torch.inference_mode()
    def pictures(self, batches: Sequence[Encoded], how: Setting) -> list[np.ndarray]:
        """One [64, 64, 3] in 0..1 for each condition."""
        return [picture for number, batch in enumerate(batches, SEED) for picture in self._batch(batch, how, number)]

    def _batch(self, batch: Encoded, how: Setting, seed: int) -> list[np.ndarray]:
        model = run(
            IPAdapterInstructApply,
            model=self.world.model,
            embeds=batch.embeds,
            weight=how.weight,
            guidance=how.guidance,
            instruct_guidance=how.instruct,
            image_guidance=how.image,
            start_percent=0.0,
            end_percent=1.0,
        )[0]
        return sample(replace(self.world, model=model), batch.positive, batch.negative, seed, how.steps)

    def _encoded(self, adapter: AdapterWithEncoders, condition: Condition, states: Tensor) -> Encoded:
        (references,) = run(
            IPAdapterInstructReference,
            instruction="",
            negative_instruction="",
            weight=1.0,
            combine=CONCAT,
            embeds=states,
            neg_embeds=self.blank,
        )
        return Encoded(
            *run(
                IPAdapterInstructEncode,
                adapter=adapter,
                clip=self.world.clip,
                task=OWN_WORDS,
                instruction=condition.instruction,
                prompt=condition.text,
                negative_prompt="",
                references=references,
            )
        )


def joined(each: Sequence[Encoded]) -> Encoded:
    """Single conditions as a batch."""
    embeds = [one.embeds for one in each]
    branches = [branch for branch, _ in embeds[0].image_tokens.items()]
    tokens = Branches(*(torch.cat([one.image_tokens[branch] for one in embeds]) for branch in branches))
    positive = together([one.positive for one in each])
    return Encoded(replace(embeds[0], image_tokens=tokens), positive, each[0].negative)


def together(each: Sequence[Conditioning]) -> Conditioning:
    """Conditioning of single prompts as that of a batch."""
    states = torch.cat([one[0][0] for one in each])
    pooled = torch.cat([one[0][1]["pooled_output"] for one in each])
    return [[states, {**each[0][0][1], "pooled_output": pooled}]]


def run(node: type, **inputs) -> tuple:
    """A node's outputs, run as ComfyUI's executor runs it."""
    return node.PREPARE_CLASS_CLONE({"unique_id": None}).EXECUTE_NORMALIZED(**inputs).args
