"""The base model: ComfyUI's SD3 class with four joint blocks, 256 wide; and its training.

It is trained on scenes' latents and captions. Drawings stand on whole patches and the autoencoder's encoder looks at
one patch alone, so a drawing's latents on a ground are made once. The text encoder is trained to give a sense's code
where a word has one and zeros elsewhere, so here captions are just these codes and zeros, and the text encoder need not
be there.

B images, 16 latent channels of 12 x 12, L text tokens, D channels of the text that are ever filled.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from drawn_world.in_process import DEVICE, comfy
from drawn_world.models.autoencoder import CHANNELS, Components, components
from drawn_world.models.autoencoder import PATCH as PIXELS
from drawn_world.models.text_encoder import BLANK_HEIGHT, BLANKS, CODE, LENGTH, MARK, SIZES, code_of
from drawn_world.scenes.drawing import draw, ground
from drawn_world.scenes.scene import BIG_PLACES, Scene, random_scene, square_of
from drawn_world.scenes.words import Sense, random_attributes, senses_of
from drawn_world.training import Training, TrainingArguments

BLOCKS = 4
WIDTH = 64 * BLOCKS
CONTEXT, POOLED = 4096, 2048  # SD3's widths of text; the text encoder fills the first of both
FILLED = SIZES.channels + BLANKS  # of the context
PATCH = 2
SENSES = 8  # that a caption has at most
STATES = SENSES + 1 + BLANKS  # of a short text: senses, then zeros, of which the last counts for all padding; blanks
COPIES = LENGTH - SENSES - BLANKS
PREFIX = "model.diffusion_model."
CHECKS = 2 * 16  # pixels after which every ground repeats

STEPS, BATCH = 40_000, 32
ARGUMENTS = {"learning_rate": 1e-3, "lr_warmup_steps": 200, "weight_decay": 0.01, "ema_decay": 0.999}
UNSURE = 0.03  # standard deviation of a trained text encoder from the codes
MIDDLE_LEVEL = 0.4  # of the logit-normal noise levels


def new_base(seed: int = 0) -> comfy.model_base.SD3:
    """ComfyUI's SD3 to be trained, in float32: as wide on the text's side as is ever filled."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": FILLED, "out_features": WIDTH}}
    sizes = {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "patch_size": PATCH,
        "depth": BLOCKS,
        "input_size": None,
        "adm_in_channels": 1,  # always zero, see `widened`
        "context_embedder_config": embedder,
        "qk_norm": "rms",
        "pos_embed_scaling_factor": None,
        "x_block_self_attn_layers": [],
    }
    config = comfy.supported_models.SD3(sizes)
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = comfy.ops.disable_weight_init
    base = comfy.model_base.SD3(config, device="cpu")
    draw_weights(base.diffusion_model, seed)
    without_checkpointing(base.diffusion_model)
    return base


def draw_weights(denoiser: nn.Module, seed: int) -> None:
    """First weights: every block passes its input on, and the prediction is zero.

    Source: facebookresearch/DiT, models.py, initialize_weights (adaLN-Zero).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "ln_q" in name or "ln_k" in name:
                parameter.fill_(1.0)
            elif parameter.ndim == 1 or "adaLN_modulation" in name or name.startswith("final_layer"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, math.sqrt(1 / parameter[0].numel()), generator=generator)


def without_checkpointing(denoiser: nn.Module) -> None:
    """Have blocks keep all that their gradients need: there is memory enough."""
    for block in denoiser.joint_blocks:
        block.forward = partial(block.forward, use_checkpoint=False)


def velocity_loss(base: comfy.model_base.SD3, latents: Tensor, states: Tensor, noise: Tensor, sigmas: Tensor):
    """Mean squared error of the predicted velocity, which should be noise - latents.

    latents and noise [B, 16, 12, 12], as SD3's latent format has them; states [B, L, D]; sigmas [B] in 0..1.
    Source: arXiv 2403.03206 section 2 (rectified flow), in the convention of ComfyUI's CONST.
    """
    level = sigmas[:, None, None, None]
    noisy = level * noise + (1 - level) * latents
    timesteps = base.model_sampling.timestep(sigmas).float()
    pooled = torch.zeros(len(states), 1)
    predicted = base.diffusion_model(noisy, timesteps, context=states, y=pooled, transformer_options=SHORT_TEXTS)
    return (predicted.float() - (noise - latents)).square().mean()


def counting_copies(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
    """SD3's joint attention, text first, in which the token of the padding counts COPIES times.

    For transformer_options' `optimized_attention_override`. q, k, v [B, L + N, D] -> [B, L + N, D].
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    counts = torch.zeros(k.shape[2], dtype=q.dtype, device=q.device)
    counts[SENSES] = math.log(COPIES)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + counts  # faster backwards than torch's own
    return torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2)


SHORT_TEXTS = {"optimized_attention_override": counting_copies}


def widened(weights: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The denoiser's weights at SD3's own widths of text.

    The text encoder never reaches the new columns of the context. They are drawn like the others, so that image tokens,
    which take the same way in, have all of it. The column of the end token's mark is zero: padding says nothing. So are
    the pooled text's columns: the base does not hear it, and all that it is told is in the states, where an adapter's
    tokens lie too.
    """
    context = weights["context_embedder.weight"]
    rest = torch.randn(WIDTH, CONTEXT - FILLED, generator=torch.Generator().manual_seed(seed))
    wide = {**weights, "y_embedder.mlp.0.weight": torch.zeros(WIDTH, POOLED)}
    wide["context_embedder.weight"] = torch.cat([context, rest * context.std()], 1)
    wide["context_embedder.weight"][:, MARK] = 0.0
    return wide


class Latents:
    """Latents of scenes, from parts that are kept."""

    def __init__(self, linear: Components) -> None:
        self.linear = linear
        self.parts: dict[tuple, Tensor] = {}

    def of(self, scene: Scene) -> Tensor:
        """[16, 12, 12]"""
        latents = self.ground(scene.ground).clone()
        for concept, place in zip(scene.concepts, scene.places, strict=True):
            part = self.part(Scene((concept,), scene.style, scene.tint, (place,), scene.ground))
            left, top, side = (length // PIXELS for length in square_of(place))
            latents[:, top : top + side, left : left + side] = part
        return latents.float()

    def ground(self, name: str) -> Tensor:
        if (name,) not in self.parts:
            self.parts[name,] = self.linear.encode(ground(name)[None])[0].half()
        return self.parts[name,]

    def part(self, scene: Scene) -> Tensor:
        """The latents of one drawing's square; alike at places where the ground is alike."""
        (place,), (concept,) = scene.places, scene.concepts
        left, top, side = square_of(place)
        phase = (left + top) % CHECKS if scene.ground == "checks" else 0
        key = (concept, scene.style, scene.tint, place in BIG_PLACES, scene.ground, phase)
        if key not in self.parts:
            rows, columns = (slice(start // PIXELS, (start + side) // PIXELS) for start in (top, left))
            self.parts[key] = self.linear.encode(draw(scene)[None])[0][:, rows, columns].half()
        return self.parts[key]


def states_of(captions: Sequence[Sequence[tuple[Sense, bool]]]) -> Tensor:
    """Captions as the text encoder gives them [B, L, D]: a state for each sense, zeros, and the marks of blanks."""
    states = torch.zeros(len(captions), STATES, FILLED)
    states[:, -BLANKS:, -BLANKS:] = BLANK_HEIGHT * torch.eye(BLANKS)
    for row, senses in enumerate(captions):
        for place, (sense, second) in enumerate(senses):
            states[row, place, :CODE] = code_of(sense, second)
    return states


def examples(latents: Latents, count: int, drawn: random.Random) -> tuple[Tensor, Tensor]:
    """Latents [B, 16, 12, 12] of random scenes, and their captions' states [B, L, D]."""
    scenes = [random_scene(drawn) for _ in range(count)]
    states = states_of([senses_of(scene, random_attributes(drawn)) for scene in scenes])
    return torch.stack([latents.of(scene) for scene in scenes]), states


def train(steps: int) -> None:
    base, latents = new_base(), Latents(components())

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        images, states = examples(latents, BATCH, random.Random(step))
        even = (torch.randperm(BATCH, generator=generator) + torch.rand(BATCH, generator=generator)) / BATCH
        sigmas = torch.sigmoid(torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)) + MIDDLE_LEVEL)
        noise = torch.randn(images.shape, generator=generator)
        states = states + UNSURE * torch.randn(states.shape, generator=generator)
        given = [tensor.to(DEVICE) for tensor in (images, states, noise, sigmas)]
        with torch.autocast(DEVICE, torch.bfloat16):
            return velocity_loss(base, *given)

    training = Training("base", base.diffusion_model, TrainingArguments(steps, **ARGUMENTS), (0.9, 0.95))
    base.to(DEVICE)
    training.run(loss_of)
