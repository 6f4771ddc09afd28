"""Train an adapter's resampler to turn images by instructions into words.

Each image token stands for one attribute. It should lie where the text encoder's hidden state of the right word lies
when the instruction asks for the attribute, and else where padding lies, which means nothing to the base model, as
without an instruction or an image. Where the world has no word for what a drawing is or how it is drawn, that token
alone is not trained. `train_attention` trains what becomes of the tokens.

B examples, T image tokens, K words.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from ipadapter_instruct.models.adapter.resampler import ProjectionSizes, Resampler
from torch import Tensor

from drawn_world.adapter.references import (
    References,
    TextReader,
    blank_image_states,
    hidden_states_of,
    nameless_attributes,
    references,
)
from drawn_world.files import JOINT
from drawn_world.in_process import DEVICE
from drawn_world.models.base import CONTEXT
from drawn_world.models.image_encoder import CHANNELS, ImageEncoder
from drawn_world.models.image_encoder import WIDTH as IMAGE_WIDTH
from drawn_world.models.text_encoder import CODE, MARK, all_codes, code_of
from drawn_world.models.text_encoder import WIDTH as TEXT_WIDTH
from drawn_world.scenes.drawing import draw
from drawn_world.scenes.scene import CONCEPTS, HELD_OUT, STYLES, TASKS, Scene, random_scene
from drawn_world.scenes.words import (
    PLAIN,
    held_out_wordings,
    plain_caption,
    random_attributes,
    senses_of,
    trained_wordings,
)
from drawn_world.training import Training, TrainingArguments

PREFIX = "resampler-"  # of trainings' names
FIXED = "fixed"
NAMES = (JOINT, FIXED, *TASKS)  # of adapters: for all tasks, for one wording of each, or for one task
STEPS = {JOINT: 6000, FIXED: 3000, **{task: 1000 for task in TASKS}}
BATCH = 48
ARGUMENTS = {"learning_rate": 1.5e-3, "weight_decay": 0.05, "ema_decay": 0.0}
SHARE_EMPTY = 0.1  # of examples that are without one of these, whose tokens are to mean nothing
EMPTY = (("instruction",), ("instruction", "image"), ("image",), ("instruction", "image", "prompt"))
PATCHES_READ = 128  # in a step, of 256, so that no image is known by heart
PROMPTS, TRIED = 200, 100  # texts; held-out references for each task
SLOTS = (("style", 0), ("tint", 0), ("concept", 0), ("place", 0), ("concept", 1), ("place", 1), ("ground", 0))
LENGTH = math.sqrt(CODE)  # of a code, and of the token that means nothing
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
    """A resampler with its first weights: its tokens lie in the channels that texts use, and are as long as a code."""
    resampler = Resampler(SIZES)
    with torch.no_grad():
        resampler.latents.normal_(0, 0.5)
        resampler.proj_out.weight[CODE + 1 :], resampler.proj_out.bias[CODE + 1 :] = 0.0, 0.0
        resampler.norm_out.weight.zero_()
        resampler.norm_out.weight[: CODE + 1] = LENGTH / math.sqrt(CONTEXT)
    return resampler


@functools.cache
def silent() -> Tensor:
    """A token [128] that means nothing to the base model, as the padding's mark does."""
    return LENGTH * F.one_hot(torch.tensor(MARK), CODE + 1).float()


def wanted_tokens(scene: Scene, task: str) -> Tensor:
    """The tokens that a reference should have, [T, 128]."""
    tokens = silent().repeat(SIZES.tokens, 1)
    for (name, value), second in senses_of(scene, set(TASKS[task]) - nameless_attributes(scene)):
        tokens[SLOTS.index((name, int(second)))] = F.pad(code_of((name, value), second), (0, 1))
    return tokens


def trained_tokens(scene: Scene, task: str) -> Tensor:
    """A mask [T] of a reference's tokens: all but those that would need a word that the world has not."""
    nameless = {"concept" if name == "concepts" else name for name in nameless_attributes(scene) & set(TASKS[task])}
    return torch.tensor([name not in nameless for name, _ in SLOTS] + [True])


@functools.cache
def every_word() -> Tensor:
    """All that a token may be, [K, 128]: each sense, each of the second drawing, and nothing."""
    return torch.cat([F.pad(torch.stack(list(all_codes().values())), (0, 1)), silent()[None]])


def tokens_of(resampler: Resampler, images: Tensor, instructions: Tensor, prompts: Tensor) -> Tensor:
    """The tokens' first channels [B, T, 128], of hidden states without the channels that are zero.

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


class ResamplerDataset:
    """Examples: a reference, a wording of a task, a prompt that does not matter."""

    def __init__(self, pool: References, texts: TextReader, wordings: Mapping[str, Sequence[str]]) -> None:
        drawn = random.Random("prompts to read")
        prompts = [plain_caption(random_scene(drawn), random_attributes(drawn)) for _ in range(PROMPTS)]
        self.pool, self.rows = pool, {task: pool.for_task(task) for task in wordings}
        self.prompts = texts.hidden_states(prompts)
        self.instructions = {task: texts.hidden_states(some) for task, some in wordings.items()}
        self.empty, self.blank = texts.hidden_states([""])[0], blank_image_states()

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Hidden states of images, instructions and prompts; the wanted tokens, which are trained, what they may be."""
        drawn = random.Random(step)
        tasks = [drawn.choice([*self.rows]) for _ in range(BATCH)]
        rows = [drawn.choice(self.rows[task]) for task in tasks]
        instructions = torch.stack([drawn.choice(self.instructions[task]) for task in tasks])
        prompts = self.prompts[[drawn.randrange(PROMPTS) for _ in range(BATCH)]]
        pairs = [(self.pool.scenes[row], task) for row, task in zip(rows, tasks, strict=True)]
        wanted = torch.stack([wanted_tokens(*pair) for pair in pairs])
        trained = torch.stack([trained_tokens(*pair) for pair in pairs])
        may = torch.stack([possible_words(scene) for scene, _ in pairs])
        images = self.pool.states[rows].float()
        for number in range(BATCH):
            if drawn.random() < SHARE_EMPTY:
                wanted[number], trained[number], may[number] = silent(), True, True
                without = drawn.choice(EMPTY)
                if "image" in without:
                    images[number] = self.blank
                if "instruction" in without:
                    instructions[number] = self.empty
                if "prompt" in without:
                    prompts[number] = self.empty
        patches = sorted([0, *drawn.sample(range(1, 257), PATCHES_READ)])
        return images[:, patches], instructions, prompts, wanted, trained, may


@functools.cache
def never_met() -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Masks [K] of the words that are held out of a style, and of a concept: so that none is told by the other."""
    numbers = {sense: number for number, sense in enumerate(all_codes())}
    of_style, of_concept = (
        {name: torch.zeros(len(every_word()), dtype=torch.bool) for name in names} for names in (STYLES, CONCEPTS)
    )
    for concept, style in HELD_OUT:
        for second in (False, True):
            of_style[style][numbers[("concept", concept), second]] = True
        of_concept[concept][numbers[("style", style), False]] = True
    return of_style, of_concept


def possible_words(scene: Scene) -> Tensor:
    """The words that are ever met beside what a scene shows, [K]."""
    of_style, of_concept = never_met()
    never = torch.zeros(len(every_word()), dtype=torch.bool)
    for some, names in ((of_style, (scene.style,)), (of_concept, scene.concepts)):
        for name in names:
            never = never | some[name] if name in some else never
    return ~never


def difference(made: Tensor, wanted: Tensor, trained: Tensor, may: Tensor) -> Tensor:
    """A loss: how far trained tokens are from those that are wanted, and whether these are the nearest that may be."""
    words = every_word().to(made)
    right = (wanted @ words.T).argmax(-1)
    logits = (made @ words.T * SHARPNESS).masked_fill(~may[:, None], -1e4)
    return (made - wanted)[trained].square().mean() + F.cross_entropy(logits[trained], right[trained])


@torch.no_grad()
def shares_right(
    resampler: Resampler, texts: TextReader, wordings: Mapping[str, Sequence[str]], count: int = TRIED
) -> dict[str, float]:
    """The share of held-out references whose tokens are all the right words, by task, with some of these wordings."""
    encoder, drawn, shares = ImageEncoder.from_stored(), random.Random("held out"), {}
    device, words = next(resampler.parameters()).device, every_word()
    for task, some in wordings.items():
        scenes = [random_scene(drawn, sorted(HELD_OUT)) for _ in range(count)]
        instructions = texts.hidden_states([drawn.choice(some) for _ in scenes])
        prompts = texts.hidden_states([plain_caption(random_scene(drawn)) for _ in scenes])
        given = (hidden_states_of(encoder, map(draw, scenes)).float(), instructions, prompts)
        made = tokens_of(resampler, *(part.to(device) for part in given)).cpu()
        wanted = torch.stack([wanted_tokens(scene, task) for scene in scenes])
        right = ((made @ words.T).argmax(-1) == (wanted @ words.T).argmax(-1)).all(-1)
        shares[task] = round(right.float().mean().item(), 3)
    return shares


def train(name: str, steps: int) -> None:
    torch.manual_seed(0)
    if name == FIXED:
        wordings = tried = {task: (PLAIN[task],) for task in TASKS}
    else:
        tasks = TASKS if name == JOINT else (name,)
        wordings, tried = ({task: some(task) for task in tasks} for some in (trained_wordings, held_out_wordings))
    resampler, texts = new_resampler(), TextReader()
    dataset = ResamplerDataset(references(), texts, wordings)

    def loss_of(step: int) -> Tensor:
        *given, wanted, trained, may = (part.to(DEVICE) for part in dataset.batch(step))
        with torch.autocast(DEVICE, torch.bfloat16):
            return difference(tokens_of(resampler, *given), wanted, trained, may)

    training = Training(f"{PREFIX}{name}", resampler, TrainingArguments(steps, **ARGUMENTS))
    training.run(loss_of, lambda: shares_right(resampler, texts, tried), 500)
