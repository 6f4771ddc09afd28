"""An adapter's resampler is trained to read: pictures by instructions, into words.

    PYTHONPATH=tools python -m drawn_world.adapter.reading joint [steps]

Each image token stands for one attribute. It should lie where the text encoder's state of the right word lies when the
instruction asks for the attribute, and else where padding lies, which says nothing to the base model, as without an
instruction or a picture. Where the world has no word for what a drawing is or how it is drawn, that token alone is not
trained. `writing` trains what becomes of the tokens.

Names: joint, one of the tasks, or fixed, which knows one wording of each task.

B examples, T image tokens.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import sys
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from ipadapter_instruct.models.adapter.resampler import ProjectionSizes, Resampler
from torch import Tensor, nn

from drawn_world.adapter.references import (
    Readable,
    References,
    blank_states,
    picture_encoder,
    references,
    states_of,
    without_words,
)
from drawn_world.base.examples import senses_of
from drawn_world.base.model import CONTEXT
from drawn_world.encoders.picture import CHANNELS
from drawn_world.encoders.picture import WIDTH as IMAGE_WIDTH
from drawn_world.encoders.text import CODE, MARK, all_codes, code_of
from drawn_world.encoders.text import WIDTH as TEXT_WIDTH
from drawn_world.in_process import DEVICE
from drawn_world.pictures.concepts import CONCEPTS, STYLES
from drawn_world.pictures.drawing import draw
from drawn_world.pictures.scenes import HELD_OUT, TASKS, Scene, random_scene
from drawn_world.training import Training, TrainingArguments
from drawn_world.words.captions import plain_caption, random_told
from drawn_world.words.instructions import PLAIN, held_out, trained

JOINT, FIXED = "joint", "fixed"
NAMES = (JOINT, FIXED, *TASKS)
STEPS = {JOINT: 6000, FIXED: 3000, **{task: 1000 for task in TASKS}}
BATCH = 48
ARGUMENTS = {"learning_rate": 1.5e-3, "weight_decay": 0.05, "ema_decay": 0.0}
SHARE_EMPTY = 0.1  # of examples that are without one of these, which are to say nothing
EMPTY = (("instruction",), ("instruction", "picture"), ("picture",), ("instruction", "picture", "prompt"))
PATCHES_READ = 128  # in a step, of 256, so that a picture is not known by heart
PROMPTS, TRIED = 200, 100  # texts; held-out references for each task
SLOTS = (("style", 0), ("tint", 0), ("concept", 0), ("place", 0), ("concept", 1), ("place", 1), ("ground", 0))
LENGTH = math.sqrt(CODE)  # of a code, and of what says nothing
SHARPNESS = 1 / 8
SIZES = ProjectionSizes(
    tokens=len(SLOTS) + 1,
    out_width=CONTEXT,
    image_width=IMAGE_WIDTH,
    text_width=TEXT_WIDTH,
    width=128,
    heads=4,
    blocks=3,
    image_ff=256,
    prompt_ff=128,
    instruct_ff=128,
)


def new_resampler() -> Resampler:
    """Drawn; what it gives lies in the channels that texts use, and is as long as a code."""
    resampler = Resampler(SIZES)
    with torch.no_grad():
        resampler.latents.normal_(0, 0.5)
        resampler.proj_out.weight[CODE + 1 :], resampler.proj_out.bias[CODE + 1 :] = 0.0, 0.0
        resampler.norm_out.weight.zero_()
        resampler.norm_out.weight[: CODE + 1] = LENGTH / math.sqrt(CONTEXT)
    return resampler


@functools.cache
def silent() -> Tensor:
    """A state [128] that says nothing to the base model, as the padding's mark does."""
    return LENGTH * F.one_hot(torch.tensor(MARK), CODE + 1).float()


def wanted_tokens(scene: Scene, task: str) -> Tensor:
    """What the tokens should be of a reference, [T, 128]."""
    tokens = silent().repeat(SIZES.tokens, 1)
    for (name, value), second in senses_of(scene, set(TASKS[task]) - without_words(scene)):
        tokens[SLOTS.index((name, int(second)))] = F.pad(code_of((name, value), second), (0, 1))
    return tokens


def trained_tokens(scene: Scene, task: str) -> Tensor:
    """Which tokens are trained of a reference, [T]: all but those that would need a word that the world has not."""
    untold = {"concept" if name == "concepts" else name for name in without_words(scene) & set(TASKS[task])}
    return torch.tensor([name not in untold for name, _ in SLOTS] + [True])


@functools.cache
def every_word() -> Tensor:
    """All that a token may be, [K, 128]: each sense, each of the second drawing, and nothing."""
    return torch.cat([F.pad(torch.stack(list(all_codes().values())), (0, 1)), silent()[None]])


def tokens_of(resampler: Resampler, images: Tensor, instructions: Tensor, prompts: Tensor) -> Tensor:
    """The tokens' first channels [B, T, 128], of states without the channels that are zero.

    images [B, 257, 163]; texts [B, 77, 128].
    """
    image = F.linear(images, resampler.proj_in.weight[:, :CHANNELS], resampler.proj_in.bias)
    readers = zip((resampler.proj_new_input, resampler.proj_prompt_input), (instructions, prompts), strict=True)
    instruct, prompt = (F.linear(x, layer.weight[:, : CODE + 1], layer.bias) for layer, x in readers)
    queries = resampler.latents.to(image).expand(len(image), -1, -1)
    for blocks in zip(resampler.layers, resampler.prompt_layers, resampler.new_input_layers, strict=True):
        for block, context in zip(blocks, (image, prompt, instruct), strict=True):
            queries = block(context, queries)
    out = F.linear(queries, resampler.proj_out.weight[: CODE + 1], resampler.proj_out.bias[: CODE + 1]).float()
    mean = out.sum(-1, keepdim=True) / CONTEXT
    spread = out.square().sum(-1, keepdim=True) / CONTEXT - mean.square()
    scaled = (out - mean) * (spread + resampler.norm_out.eps).rsqrt()
    return scaled * resampler.norm_out.weight[: CODE + 1] + resampler.norm_out.bias[: CODE + 1]


class ReadingDataset:
    """Examples of reading: a reference, a wording of a task, a prompt that does not matter."""

    def __init__(self, pool: References, texts: Readable, wordings: Mapping[str, Sequence[str]]) -> None:
        drawn = random.Random("prompts to read")
        prompts = [plain_caption(random_scene(drawn), random_told(drawn)) for _ in range(PROMPTS)]
        self.pool, self.rows = pool, {task: pool.for_task(task) for task in wordings}
        self.prompts = texts.states(prompts)
        self.instructions = {task: texts.states(known) for task, known in wordings.items()}
        self.empty, self.blank = texts.states([""])[0], blank_states()

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """References' states, instructions, prompts, the tokens that are wanted, which count, and what they may be."""
        drawn = random.Random(step)
        tasks = [drawn.choice([*self.rows]) for _ in range(BATCH)]
        rows = [drawn.choice(self.rows[task]) for task in tasks]
        instructions = torch.stack([drawn.choice(self.instructions[task]) for task in tasks])
        prompts = self.prompts[[drawn.randrange(PROMPTS) for _ in range(BATCH)]]
        scenes = [self.pool.scenes[row] for row in rows]
        wanted = torch.stack([wanted_tokens(scene, task) for scene, task in zip(scenes, tasks, strict=True)])
        count = torch.stack([trained_tokens(scene, task) for scene, task in zip(scenes, tasks, strict=True)])
        may = torch.stack([possible(scene) for scene in scenes])
        images = self.pool.states[rows].float()
        for number in range(BATCH):
            if drawn.random() < SHARE_EMPTY:
                wanted[number], count[number], may[number] = silent(), True, True
                without = drawn.choice(EMPTY)
                if "picture" in without:
                    images[number] = self.blank
                if "instruction" in without:
                    instructions[number] = self.empty
                if "prompt" in without:
                    prompts[number] = self.empty
        patches = sorted([0, *drawn.sample(range(1, 257), PATCHES_READ)])
        return images[:, patches], instructions, prompts, wanted, count, may


@functools.cache
def never_met() -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """By style and by concept, the words that are held out of it, [K]: so that none is told by the other."""
    numbers = {sense: number for number, sense in enumerate(all_codes())}
    count = len(every_word())
    of_style = {style: torch.zeros(count, dtype=torch.bool) for style in STYLES}
    of_concept = {concept: torch.zeros(count, dtype=torch.bool) for concept in CONCEPTS}
    for concept, style in HELD_OUT:
        for second in (False, True):
            of_style[style][numbers[("concept", concept), second]] = True
        of_concept[concept][numbers[("style", style), False]] = True
    return of_style, of_concept


def possible(scene: Scene) -> Tensor:
    """Which words are ever met beside what a scene shows, [K]."""
    of_style, of_concept = never_met()
    known = [of_style[scene.style]] if scene.style in of_style else []
    known += [of_concept[concept] for concept in scene.concepts if concept in of_concept]
    return ~torch.stack([torch.zeros(len(every_word()), dtype=torch.bool), *known]).any(0)


def difference(made: Tensor, wanted: Tensor, count: Tensor, may: Tensor) -> Tensor:
    """How far tokens that count are from what they should be, and whether that is the nearest word that may be."""
    words = every_word().to(made)
    right = (wanted @ words.T).argmax(-1)
    logits = (made @ words.T * SHARPNESS).masked_fill(~may[:, None], -1e4)
    return (made - wanted)[count].square().mean() + F.cross_entropy(logits[count], right[count])


@torch.no_grad()
def read_right(
    resampler: Resampler, texts: Readable, wordings: Mapping[str, Sequence[str]], count: int = TRIED
) -> dict[str, float]:
    """By task, of how many held-out references all tokens are the right words, with some of these wordings."""
    encoder, drawn, shares = picture_encoder(), random.Random("held out"), {}
    device = next(resampler.parameters()).device
    for task, known in wordings.items():
        scenes = [random_scene(drawn, sorted(HELD_OUT)) for _ in range(count)]
        instructions = texts.states([drawn.choice(known) for _ in scenes])
        prompts = texts.states([plain_caption(random_scene(drawn)) for _ in scenes])
        given = (states_of(encoder, map(draw, scenes)).float(), instructions, prompts)
        made = tokens_of(resampler, *(part.to(device) for part in given)).cpu()
        wanted = torch.stack([wanted_tokens(scene, task) for scene in scenes])
        words = every_word()
        right = ((made @ words.T).argmax(-1) == (wanted @ words.T).argmax(-1)).all(-1)
        shares[task] = round(right.float().mean().item(), 3)
    return shares


def train(name: str, steps: int) -> nn.Module:
    torch.manual_seed(0)
    if name == FIXED:
        wordings = tried = {task: (PLAIN[task],) for task in TASKS}
    else:
        tasks = TASKS if name == JOINT else (name,)
        wordings, tried = ({task: some(task) for task in tasks} for some in (trained, held_out))
    resampler, texts = new_resampler(), Readable()
    dataset = ReadingDataset(references(), texts, wordings)

    def loss_of(step: int) -> Tensor:
        *given, wanted, count, may = (part.to(DEVICE) for part in dataset.batch(step))
        with torch.autocast(DEVICE, torch.bfloat16):
            return difference(tokens_of(resampler, *given), wanted, count, may)

    training = Training(f"reading-{name}", resampler, TrainingArguments(steps, **ARGUMENTS))
    training.run(loss_of, lambda: read_right(resampler, texts, tried), 500)
    return resampler


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("steps", type=int, nargs="?")
    wanted = parser.parse_args()
    train(wanted.name, wanted.steps or STEPS[wanted.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
