"""The number of times that the encoders run when inputs of the Encode node change."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import torch
from comfyhost.encoders import clip_l_text
from comfyhost.weights import draw
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode

from benchmarks.counting import counted
from benchmarks.models import SMALL, adapter, fill
from benchmarks.report import Result

VIT_H = Path(comfy.clip_vision.__file__).with_name("clip_vision_config_h.json")
LANDSCAPE, PORTRAIT = torch.full((1, 256, 320, 3), 0.3), torch.full((1, 320, 256, 3), 0.6)
TEXTS = {"task": OWN_WORDS, "instruction": "use the style", "prompt": "a house", "negative_prompt": "blurry"}
ENCODES = (  # what, changed inputs, promised runs of the image encoder and of the text encoder
    # The first time, one picture is the blank one. Texts: the instruction, the everything branch's, "", both prompts,
    # and for the sampler both prompts once more, as CLIP Text Encode reads them.
    ("first picture", {"image": LANDSCAPE}, 2, 7),
    ("changed instruction", {"instruction": "use the pose"}, 0, 1),
    ("changed prompt", {"prompt": "a boat"}, 0, 2),
    ("changed negative prompt", {"negative_prompt": "dark"}, 0, 2),
    ("changed picture", {"image": PORTRAIT}, 1, 0),
    ("the first picture and instruction again", {"image": LANDSCAPE, "instruction": TEXTS["instruction"]}, 0, 0),
)


def encoder_runs() -> Iterator[Result]:
    encoder = image_encoder()
    weights = {**draw(clip_l_text(), 0, torch.float16), "text_projection.weight": torch.eye(768)}
    clip = comfy.sd.load_text_encoder_state_dicts([weights])
    loaded = AdapterWithEncoders(adapter(SMALL, torch.float32), clip_vision=encoder)
    inputs = {"adapter": loaded, "clip": clip, **TEXTS}
    text_encoder = clip.cond_stage_model.clip_l.transformer.text_model.encoder
    for what, changed, pictures, texts in ENCODES:
        inputs |= changed
        with counted([encoder.model]) as read, counted([text_encoder]) as written:
            IPAdapterInstructEncode.execute(**inputs)
        runs = {"image encoder": len(read), "text encoder": len(written)}
        yield Result(what, runs, {"image encoder": pictures, "text encoder": texts})


def image_encoder() -> comfy.clip_vision.ClipVisionModel:
    """A ViT-H of three layers."""
    config = {**json.loads(VIT_H.read_text(encoding="utf-8")), "num_hidden_layers": 3}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        encoder = comfy.clip_vision.ClipVisionModel(file.name)
    fill(encoder.model)
    return encoder
