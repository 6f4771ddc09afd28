"""An adapter's attention is trained to write, by the pack's own training: image tokens into pictures.

    PYTHONPATH=tools python -m drawn_world.adapter.writing [steps]

Image tokens that lie where words lie should do what those words would have done in the prompt. So the base model is
the teacher: what it predicts when it is told all, the adapted base should predict when the tokens say what the prompt
leaves out, or says otherwise. There is far less noise in that than in pictures. `reading` trains what gives the
tokens; here they are made of words. Run again after a kill, it goes on where it was.

Source: arXiv 1503.02531 (distillation), here of predictions at all noise levels.

B examples, T image tokens, L text tokens, D width.
"""

from __future__ import annotations

import functools
import random
import sys
from functools import partial

import torch
import torch.nn.functional as F
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.denoisers.joint_attention_patch import OVERRIDE
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.batch import Batch, Conditioning
from ipadapter_instruct.models.training.frozen_base import FrozenBase, plain_attention, trainable_family
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import BF16, TrainingArguments
from torch import Tensor, nn

from drawn_world.adapter.hearing import hearing
from drawn_world.adapter.reading import SIZES, SLOTS, silent, wanted_tokens
from drawn_world.adapter.references import wide
from drawn_world.autoencoder.components import components
from drawn_world.base.examples import Latents, senses_of, states_of
from drawn_world.base.model import CONTEXT, POOLED, counting_copies
from drawn_world.encoders.text import all_codes
from drawn_world.files import CHECKPOINT, build
from drawn_world.in_process import comfy
from drawn_world.pictures.scenes import TASKS, counted_pairs, random_scene, taken
from drawn_world.storage import saved_state
from drawn_world.training import log_and_save, state_path
from drawn_world.words.captions import TOLD

NAME = "writing"
STEPS, BATCH, LEARNING_RATE, EMA_DECAY = 20_000, 32, 1e-3, 0.998
SHAPE = Shape(tokens=SIZES.tokens, width=SIZES.width, heads=SIZES.heads, blocks=SIZES.blocks, image_ff=2, text_ff=1)
OFTEN = {"object": 3, "everything": 5}  # the hardest tasks, next to one of each other
CONTRADICTED, SHARE_KEPT = 0.2, 0.9  # of the prompts tell what is asked for; of the other attributes are told
SHARE_UNTOLD = 0.1  # of prompts tell nothing, as three-way guidance asks
SHARE_SILENT = 0.1  # of examples whose tokens say nothing, and are to change nothing
BLUR = 0.3  # of tokens, at most, since those that are read are never exact; a code's numbers are about one
DOUBT = 0.45  # of a token, at most, is another word of its kind: so drawings are read that were never met


def short_attention(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **settings) -> Tensor:
    """Joint attention with the padding counted; attention to image tokens as it is."""
    attend = counting_copies if k.shape[1] == q.shape[1] else plain_attention
    return attend(function, q, k, v, heads, *args, **settings)


class Teacher(FrozenBase):
    """The base model, which predicts what the adapted one should.

    A batch's `prompt_embeds` [B, L, D] are what the teacher is told: all that the picture shows.
    """

    def losses(self, adapter: TrainableAdapter, batch: Batch, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Return the mean square difference of both predictions of the velocity, [B]."""
        level, given = sigmas[:, None, None, None], batch.conditioning
        noisy = self.sampling.noise_scaling(level, noise, batch.latents)
        with torch.no_grad():
            told = {"c_crossattn": given.prompt_embeds, "y": given.pooled_output}
            options = {OVERRIDE: self.attention, "cond_or_uncond": [0]}
            wanted = self.model.apply_model(noisy, sigmas, transformer_options=options, **told)
        return ((self.denoised(adapter, given, noisy, sigmas) - wanted) / level).square().mean((1, 2, 3))


class GivenTokens(nn.Module):
    """In a resampler's place: what is given of an image is its tokens [B, T, D]."""

    def forward(self, image_features: Tensor, instruct_embeds: Tensor, prompt_embeds: Tensor) -> Tensor:
        return image_features


class WritingDataset:
    """Endless examples, as the pack's trainer takes a dataset: tokens of one scene, and a prompt that tells another."""

    instructions = ()

    def __init__(self, latents: Latents) -> None:
        self.latents = latents
        self.unconditional = conditioning(silent().expand(1, SIZES.tokens, -1), states_of([()]), states_of([()]))

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        drawn = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        tasks = drawn.choices([*TASKS], [OFTEN.get(task, 1) for task in TASKS], k=count)
        targets, tokens, prompts, wholes = zip(*(self.example(task, drawn) for task in tasks), strict=True)
        says = torch.stack(tokens)
        says = says + BLUR * torch.rand(count, 1, 1, generator=generator) * torch.randn(says.shape, generator=generator)
        given = conditioning(says, states_of(prompts), states_of(wholes))
        return Batch(torch.stack([self.latents.of(target) for target in targets]), given)

    def example(self, task: str, drawn: random.Random) -> tuple:
        """The scene that should come out; tokens; the senses that the prompt tells, and those of the whole scene."""
        reference = random_scene(drawn)
        scene = random_scene(drawn, pairs=counted_pairs(task, reference))
        told, contradicts = [name for name in TOLD if name != "size"], drawn.random() < CONTRADICTED
        told = [name for name in told if drawn.random() < SHARE_KEPT and (contradicts or name not in TASKS[task])]
        told = told if drawn.random() >= SHARE_UNTOLD else []
        if drawn.random() < SHARE_SILENT:
            senses = senses_of(scene, told)
            return scene, silent().expand(SIZES.tokens, -1), senses, senses
        target = taken(task, reference, scene)
        whole = senses_of(target, {*told, *TASKS[task]})
        return target, doubted(wanted_tokens(reference, task), drawn), senses_of(scene, told), whole


def doubted(tokens: Tensor, drawn: random.Random) -> Tensor:
    """Tokens [T, told], each of which is partly another word of its kind; those that say nothing as they are."""
    blends = [
        token if torch.equal(token, silent()) else torch.lerp(token, drawn.choice(kind), DOUBT * drawn.random())
        for token, kind in zip(tokens, (*kinds(), [silent()]), strict=True)
    ]
    return torch.stack(blends)


@functools.cache
def kinds() -> list[list[Tensor]]:
    """For each slot all words that are said there."""
    codes = all_codes().items()
    return [
        [F.pad(code, (0, 1)) for ((kind, _), second), code in codes if (kind, int(second)) == slot] for slot in SLOTS
    ]


def conditioning(tokens: Tensor, context: Tensor, whole: Tensor) -> Conditioning:
    """What the trainer is given: tokens [B, T, told], the prompt's context and the teacher's, wide."""
    tokens, whole, context = (wide(states, CONTEXT) for states in (tokens, whole, context))
    nothing, count = torch.zeros(len(tokens), 1, 1), len(tokens)
    return Conditioning(tokens, nothing, whole, context, torch.zeros(count, POOLED))


def trainer(steps: int) -> Trainer:
    model = comfy.sd.load_checkpoint_guess_config(str(build(CHECKPOINT)), output_clip=False, output_vae=False)[0]
    for block in model.get_model_object("diffusion_model").joint_blocks:
        block.forward = partial(block.forward, use_checkpoint=False)  # there is memory enough to keep everything
    base = Teacher(model, trainable_family(model), attention=short_attention)
    adapter = TrainableAdapter(recognise({**from_scratch(base, SHAPE, seed=0), **hearing()}))
    adapter.image_projection = GivenTokens()
    drops = {"t_drop_rate": 0.0, "i_drop_rate": 0.0, "ti_drop_rate": 0.05}
    numbers = {"learning_rate": LEARNING_RATE, "ema_decay": EMA_DECAY, "mixed_precision": BF16, **drops}
    return Trainer(
        adapter, base, WritingDataset(Latents(components())), TrainingArguments(steps, BATCH, **numbers), Accelerator()
    )


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    torch.set_num_threads(1)
    writing = trainer(steps)
    if before := saved_state(state_path(NAME)):
        writing.resume(before)
    log_and_save(NAME, ((report.step, report.loss) for report in writing.steps()), writing.state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
