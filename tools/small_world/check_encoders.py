"""Whether the drawn encoders' states carry the attributes: linear probes, trained on some scenes and tried on others.

    PYTHONPATH=tools python -m small_world.check_encoders [scenes]

Texts: full captions' states and pooled states. Pictures: penultimate states through ComfyUI's own loader and
preprocessing, with the layers left out that pass their input on.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from small_world.captions import caption
from small_world.drawing import draw
from small_world.encoders import ENCODERS, PICTURE_LAYERS
from small_world.in_process import comfy
from small_world.scenes import ATTRIBUTES, Scene, random_scene
from small_world.short_texts import ShortTexts

SCENES, TRIED = 1200, 200
KEPT = 400  # of the states' directions: a probe on all of 330,000 numbers would learn scenes by heart
RIDGE = 0.1


def short_image_encoder(file: Path) -> comfy.clip_vision.ClipVisionModel:
    """ComfyUI's image encoder with one layer more than those that do something: the same penultimate states."""
    path = Path(comfy.clip_vision.__file__).with_name("clip_vision_config_h.json")
    config = {**json.loads(path.read_text()), "num_hidden_layers": PICTURE_LAYERS + 1}
    with tempfile.TemporaryDirectory() as folder:
        shorter = Path(folder, "config.json")
        shorter.write_text(json.dumps(config))
        model = comfy.clip_vision.ClipVisionModel(str(shorter))
    model.load_sd(load_file(file))
    return model


@torch.inference_mode()
def picture_states(scenes: Sequence[Scene], drawn: random.Random) -> Tensor:
    """[N, 257 * 1280], fp16."""
    encoder = short_image_encoder(ENCODERS["picture"].built())
    states = []
    for scene in scenes:
        picture = torch.from_numpy(draw(scene, drawn))[None]
        states.append(encoder.encode_image(picture).penultimate_hidden_states.half().flatten(1))
    return torch.cat(states)


def probe(states: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """The share of tried scenes of which a ridge regression on states [N, D] tells an attribute, by attribute."""
    features = main_directions(states.float())
    learnt, tried = features[:-TRIED], features[-TRIED:]
    inverse = torch.linalg.inv(learnt.T @ learnt + RIDGE * len(learnt) * torch.eye(learnt.shape[1]))
    shares = {}
    for name, values in ATTRIBUTES.items():
        classes = torch.tensor([values.index(scene.attributes[name]) for scene in scenes])
        wanted = torch.nn.functional.one_hot(classes, len(values)).float()[:-TRIED]
        guesses = (tried @ (inverse @ (learnt.T @ (wanted - wanted.mean(0)))) + wanted.mean(0)).argmax(-1)
        shares[name] = float((guesses == classes[-TRIED:]).float().mean())
    return shares


def main_directions(states: Tensor) -> Tensor:
    """States [N, D] on their main directions [N, KEPT], each of spread one."""
    centred = states - states.mean(0)
    spreads, vectors = torch.linalg.eigh(centred @ centred.T)
    return vectors[:, -KEPT:] * np.sqrt(len(states)) * (spreads[-KEPT:] > 1e-4 * spreads[-1])


def main() -> int:
    torch.set_num_threads(1)
    drawn = random.Random("probe")
    scenes = [random_scene(drawn) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else SCENES)]
    texts = ShortTexts(ENCODERS["text"].built()).encode([caption(scene, tuple(ATTRIBUTES), drawn) for scene in scenes])
    kinds = {
        "texts' states": texts.states.flatten(1),
        "pooled texts": texts.pooled,
        "pictures' states": picture_states(scenes, drawn),
    }
    for kind, states in kinds.items():
        shares = probe(states, scenes)
        print(f"{kind:17}", "  ".join(f"{name} {share:.3f}" for name, share in shares.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
