"""Train an adapter's attention, by the pack's own training, to draw what image tokens say.

Image tokens that lie where words lie should do what those words would have done in the prompt. So the base model is
the teacher: what it predicts when the prompt tells all, the adapted base should predict when the tokens say what the
prompt leaves out, or says otherwise. There is far less noise in that than in images. `train_resampler` trains what
gives the tokens; here they are made of words. Run again after a kill, it goes on where it was.

Source: arXiv 1503.02531 (distillation), here of predictions at all noise levels.

B examples, T image tokens, L text tokens, D width.
"""

from __future__ import annotations

import functools
import random

import torch
import torch.nn.functional as F
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.adapter.trained_files import write_adapter
from ipadapter_instruct.models.denoisers.joint_attention_patch import OVERRIDE
from ipadapter_instruct.models.families import SD3
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.batch import Batch, Conditioning
from ipadapter_instruct.models.training.frozen_base import FrozenBase, plain_attention, trainable_family
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter, named_as_published
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import BF16, TrainingArguments
from torch import Tensor, nn

from drawn_world.adapter.initial_attention import initial_attention
from drawn_world.adapter.references import wide
from drawn_world.adapter.train_resampler import PREFIX, SIZES, SLOTS, silent, wanted_tokens
from drawn_world.files import CHECKPOINT, adapter_note, adapter_path, build
from drawn_world.in_process import comfy
from drawn_world.models.autoencoder import components
from drawn_world.models.base import CONTEXT, POOLED, Latents, counting_copies, states_of, without_checkpointing
from drawn_world.models.text_encoder import all_codes
from drawn_world.scenes.scene import TASKS, random_prompt_scene, random_scene, taken
from drawn_world.scenes.words import CAPTIONED, senses_of
from drawn_world.training import log_and_save, saved_state, trained_state

NAME = "attention"
STEPS, BATCH, LEARNING_RATE, EMA_DECAY = 20_000, 32, 1e-3, 0.998
SHAPE = Shape(tokens=SIZES.tokens, width=SIZES.width, heads=SIZES.heads, blocks=SIZES.blocks, image_ff=2, text_ff=1)
OFTEN = {"object": 3, "everything": 5}  # the hardest tasks, next to one of each other
CONTRADICTED, SHARE_KEPT = 0.2, 0.9  # of the prompts tell what is asked for; of the other attributes are told
SHARE_UNTOLD = 0.1  # of prompts tell nothing, as three-way guidance asks
SHARE_SILENT = 0.1  # of examples whose tokens mean nothing, and are to change nothing
BLUR = 0.3  # noise on tokens, at most, since a resampler's are never exact; a code's numbers are about one
DOUBT = 0.45  # share of another word in a token, at most: such are the tokens of drawings that were never met


def short_attention(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **settings) -> Tensor:
    """Joint attention with the padding counted; attention to image tokens as it is."""
    attend = counting_copies if k.shape[1] == q.shape[1] else plain_attention
    return attend(function, q, k, v, heads, *args, **settings)


class Teacher(FrozenBase):
    """The base model, which predicts what the adapted one should.

    A batch's `prompt_embeds` [B, L, D] are the teacher's prompt: all that the image shows.
    """

    def losses(self, adapter: TrainableAdapter, batch: Batch, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Return the mean square difference of both predictions of the velocity, [B]."""
        level, given = sigmas[:, None, None, None], batch.conditioning
        noisy = self.sampling.noise_scaling(level, noise, batch.latents)
        with torch.no_grad():
            prompts = {"c_crossattn": given.prompt_embeds, "y": given.pooled_output}
            options = {OVERRIDE: self.attention, "cond_or_uncond": [0]}
            wanted = self.model.apply_model(noisy, sigmas, transformer_options=options, **prompts)
        return ((self.denoised(adapter, given, noisy, sigmas) - wanted) / level).square().mean((1, 2, 3))


class GivenTokens(nn.Module):
    """A stand-in for the resampler, which is given an image's tokens [B, T, D] already."""

    def forward(self, image_features: Tensor, instruct_embeds: Tensor, prompt_embeds: Tensor) -> Tensor:
        return image_features


class AttentionDataset:
    """Endless examples, as the pack's trainer takes a dataset: tokens of one scene, and a prompt that tells another."""

    instructions = ()

    def __init__(self, latents: Latents) -> None:
        self.latents = latents
        self.unconditional = conditioning(silent().expand(1, SIZES.tokens, -1), states_of([()]), states_of([()]))

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        drawn = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        tasks = drawn.choices([*TASKS], [OFTEN.get(task, 1) for task in TASKS], k=count)
        targets, tokens, prompts, wholes = zip(*(self.example(task, drawn) for task in tasks), strict=True)
        exact = torch.stack(tokens)
        blur = BLUR * torch.rand(count, 1, 1, generator=generator) * torch.randn(exact.shape, generator=generator)
        given = conditioning(exact + blur, states_of(prompts), states_of(wholes))
        return Batch(torch.stack([self.latents.of(target) for target in targets]), given)

    def example(self, task: str, drawn: random.Random) -> tuple:
        """The scene that should come out; tokens; the senses of the prompt, and those of the whole scene."""
        reference = random_scene(drawn)
        scene = random_prompt_scene(task, reference, drawn)
        names, contradicts = [name for name in CAPTIONED if name != "size"], drawn.random() < CONTRADICTED
        names = [name for name in names if drawn.random() < SHARE_KEPT and (contradicts or name not in TASKS[task])]
        names = names if drawn.random() >= SHARE_UNTOLD else []
        if drawn.random() < SHARE_SILENT:
            senses = senses_of(scene, names)
            return scene, silent().expand(SIZES.tokens, -1), senses, senses
        target = taken(task, reference, scene)
        whole = senses_of(target, {*names, *TASKS[task]})
        return target, doubted(wanted_tokens(reference, task), drawn), senses_of(scene, names), whole


def doubted(tokens: Tensor, drawn: random.Random) -> Tensor:
    """Tokens [T, 128], each of which is partly another word of its kind; those that mean nothing as they are."""
    blends = [
        token if torch.equal(token, silent()) else torch.lerp(token, drawn.choice(kind), DOUBT * drawn.random())
        for token, kind in zip(tokens, (*kinds(), [silent()]), strict=True)
    ]
    return torch.stack(blends)


@functools.cache
def kinds() -> list[list[Tensor]]:
    """For each slot all words that it may hold."""
    codes = all_codes().items()
    return [
        [F.pad(code, (0, 1)) for ((kind, _), second), code in codes if (kind, int(second)) == slot] for slot in SLOTS
    ]


def conditioning(tokens: Tensor, context: Tensor, whole: Tensor) -> Conditioning:
    """The trainer's conditioning, wide: tokens [B, T, 128], the prompt's context and the teacher's."""
    tokens, whole, context = (wide(states, CONTEXT) for states in (tokens, whole, context))
    nothing, count = torch.zeros(len(tokens), 1, 1), len(tokens)
    return Conditioning(tokens, nothing, whole, context, torch.zeros(count, POOLED))


def trainer(steps: int) -> Trainer:
    model = comfy.sd.load_checkpoint_guess_config(str(build(CHECKPOINT)), output_clip=False, output_vae=False)[0]
    without_checkpointing(model.get_model_object("diffusion_model"))
    base = Teacher(model, trainable_family(model), attention=short_attention)
    adapter = TrainableAdapter(recognise({**from_scratch(base, SHAPE, seed=0), **initial_attention()}))
    adapter.image_projection = GivenTokens()
    drops = {"t_drop_rate": 0.0, "i_drop_rate": 0.0, "ti_drop_rate": 0.05}
    numbers = {"learning_rate": LEARNING_RATE, "ema_decay": EMA_DECAY, "mixed_precision": BF16, **drops}
    arguments = TrainingArguments(steps, BATCH, **numbers)
    return Trainer(adapter, base, AttentionDataset(Latents(components())), arguments, Accelerator())


def train(steps: int) -> None:
    training = trainer(steps)
    if before := saved_state(NAME):
        training.resume(before)
    log_and_save(NAME, ((report.step, report.loss) for report in training.steps()), training.state)


def join(name: str) -> None:
    """Write the adapter of a trained resampler and the trained attention; the joint one is stored."""
    resampler, attention = trained_state(f"{PREFIX}{name}"), trained_state(NAME)
    parts = {f"image_projection.{part}": weight for part, weight in resampler["model"].items()}
    weights = named_as_published(SD3, {**parts, **attention["ema"]})
    steps = f"resampler {resampler['step']} steps, attention {attention['step']} steps"
    write_adapter(weights, adapter_path(name), f"{adapter_note()}, {steps}")
