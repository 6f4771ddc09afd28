"""The world's resamplers are taught to read before the lessons begin: pictures, then instructions.

The published adapters began as an IP-Adapter Plus, whose resampler could read pictures already. This is the world's
stand-in for it. Without the base model, latents and image layers learn to make tokens of a picture as a caption has
words: each token tells one attribute, by a mark of the token and a code of the value. Then the layers for texts learn
to keep the codes of what an instruction asks for, and the marks alone of the rest. The lessons, with the base model
and its own loss, are left with writing it into the base model, and with refining.

N pictures, P = 257 places, L text tokens, T image tokens, D width of the resampler.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from ipadapter_instruct.models.adapter.resampler import ProjectionSizes, Resampler
from torch import Tensor

from small_world.captions import random_caption
from small_world.learning_rate import warm_up_and_cosine
from small_world.lessons import resampler_states
from small_world.phrasings import trained
from small_world.references import References
from small_world.scenes import ATTRIBUTES, TASKS, Scene, scene_to_learn
from small_world.short_texts import ShortTexts

LOG = logging.getLogger(__name__)
PICTURE_STEPS, TEXT_STEPS = 2500, 1000
BATCH, RATE, WARM_UP, DECAY = 64, 3e-3, 50, 0.02
PROMPTS = 300
TRIED = 256  # of the pictures, to see what is told of others
AT_ONCE = 64
LEARN_PICTURES, LEARN_TEXTS = ("latents", "layers."), ("prompt_layers.", "new_input_layers.")  # here
READS_PICTURES = ("proj_in.", *LEARN_PICTURES)  # with the first layers, of `first_layer`
READS_TEXTS = ("proj_prompt_input.", "proj_new_input.", *LEARN_TEXTS)
Weights = dict[str, Tensor]


def reading_parts(start: Mapping[str, Tensor], pool: References, texts: ShortTexts) -> Weights:
    """`start`'s latents and all its layers, taught. start: a resampler's tensors."""
    pictures = taught_pictures(start, pool)
    return {**pictures, **taught_texts({**start, **pictures}, pool, texts)}


def taught_pictures(start: Mapping[str, Tensor], pool: References, steps: int = PICTURE_STEPS) -> Weights:
    """Latents and image layers that turn each picture into its tokens' codes."""
    resampler, features = started(start), first_features(start, pool)
    words = Codes.for_tokens(resampler.sizes)
    wanted = torch.stack([words.of(scene) for scene in pool.scenes])
    generator = torch.Generator().manual_seed(0)

    def error() -> Tensor:
        rows = torch.randint(TRIED, len(features), (BATCH,), generator=generator)
        return (tokens(resampler, features[rows].bfloat16()).float() - wanted[rows]).square().mean()

    learn(resampler, LEARN_PICTURES, error, steps)
    with torch.no_grad():
        read = tokens(resampler, features[:TRIED].float())
    LOG.info("of other pictures it tells %s", words.told(read, pool.scenes[:TRIED]))
    return only(resampler, LEARN_PICTURES)


def taught_texts(start: Mapping[str, Tensor], pool: References, texts: ShortTexts, steps: int = TEXT_STEPS) -> Weights:
    """The layers for texts, which leave of a picture's code what an instruction asks for, whatever the prompt."""
    resampler, features = started(start), first_features(start, pool)
    words, drawn = Codes.for_tokens(resampler.sizes), random.Random("texts to read")
    prompts = [random_caption(scene_to_learn(drawn), drawn) for _ in range(PROMPTS)]
    read_prompts = first_of_texts(start, "proj_prompt_input", texts, prompts)
    read = {task: first_of_texts(start, "proj_new_input", texts, trained(task)) for task in TASKS}
    kept = {task: torch.stack([words.of(scene, TASKS[task]) for scene in pool.scenes]) for task in TASKS}

    def error() -> Tensor:
        rows = [drawn.randrange(TRIED, len(features)) for _ in range(BATCH)]
        asked = [drawn.choice(list(TASKS)) for _ in range(BATCH)]
        instructions = torch.stack([drawn.choice(read[task]) for task in asked])
        told_prompts = torch.stack([drawn.choice(read_prompts) for _ in range(BATCH)])
        wanted = torch.stack([kept[task][row] for task, row in zip(asked, rows, strict=True)])
        inputs = (features[rows].bfloat16(), instructions.bfloat16(), told_prompts.bfloat16())
        return (tokens(resampler, *inputs).float() - wanted).square().mean()

    learn(resampler, LEARN_TEXTS, error, steps)
    return only(resampler, LEARN_TEXTS)


def learn(resampler: Resampler, names: tuple[str, ...], error: Callable[[], Tensor], steps: int) -> None:
    """Lessen the error by the parameters whose names begin so."""
    for name, parameter in resampler.named_parameters():
        parameter.requires_grad_(name.startswith(names))
    learnt = [parameter for parameter in resampler.parameters() if parameter.requires_grad]
    learner = torch.optim.AdamW(learnt, lr=RATE, weight_decay=DECAY)
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = error()
        learner.zero_grad(set_to_none=True)
        loss.backward()
        for group in learner.param_groups:
            group["lr"] = warm_up_and_cosine(step, steps, RATE, WARM_UP)
        learner.step()
        if (step + 1) % 100 == 0:
            LOG.info("reading, %s step %d: error %.3f", names[0], step + 1, loss.item())


def started(start: Mapping[str, Tensor]) -> Resampler:
    resampler = Resampler(Resampler.read_sizes(start))
    resampler.load_state_dict(start)
    return resampler


def only(resampler: Resampler, names: tuple[str, ...]) -> Weights:
    return {name: weight.detach() for name, weight in resampler.state_dict().items() if name.startswith(names)}


def first_features(start: Mapping[str, Tensor], pool: References) -> Tensor:
    """What the first layer makes of every picture, [N, P, D], fp16."""
    weight, bias = start["proj_in.weight"], start["proj_in.bias"]
    starts = range(0, len(pool.scenes), AT_ONCE)
    batches = [pool.hidden_states(range(at, min(at + AT_ONCE, len(pool.scenes)))) for at in starts]
    return torch.cat([(states.float() @ weight.T + bias).half() for states in batches])


def first_of_texts(start: Mapping[str, Tensor], layer: str, texts: ShortTexts, given: Sequence[str]) -> list[Tensor]:
    """What the first layer makes of each text, [L, D]."""
    states = resampler_states(texts.encode(given).states)
    return list(states @ start[f"{layer}.weight"].T + start[f"{layer}.bias"])


def tokens(resampler: Resampler, picture: Tensor, instruct: Tensor | None = None, prompt: Tensor | None = None):
    """First layers' output [B, P, D], and [B, L, D] of texts -> [B, T, D], as far as the last layer but one.

    Without texts their layers are left out.
    """
    queries = resampler.latents.expand(len(picture), -1, -1)
    parts = [(resampler.layers, picture), (resampler.prompt_layers, prompt), (resampler.new_input_layers, instruct)]
    used = [(layers, context) for layers, context in parts if context is not None]
    for number in range(len(resampler.layers)):
        for layers, context in used:
            attention, feed_forward = layers[number]
            queries = queries + attention(context, queries)
            queries = queries + feed_forward(queries)
    return queries


@dataclass(frozen=True)
class Codes:
    """Vectors of one length and at right angles to one another: a mark for each token, a code for each value.

    marks [T, D]. values: by attribute [values, D].
    """

    marks: Tensor
    values: Mapping[str, Tensor]

    @classmethod
    def for_tokens(cls, sizes: ProjectionSizes) -> Codes:
        counts = [sizes.tokens, *map(len, ATTRIBUTES.values())]
        drawn = torch.randn(sizes.width, sum(counts), generator=torch.Generator().manual_seed(1))
        marks, *values = (torch.linalg.qr(drawn).Q.T * math.sqrt(sizes.width / 2)).split(counts)
        return cls(marks, dict(zip(ATTRIBUTES, values, strict=True)))

    def of(self, scene: Scene, names: Sequence[str] = tuple(ATTRIBUTES)) -> Tensor:
        """What the tokens should be for a scene of which these attributes are told, [T, D]."""
        attributes = [*ATTRIBUTES.items()]
        made = self.marks.clone()
        for token in range(len(made)):
            name, values = attributes[token % len(attributes)]
            if name in names:
                made[token] += self.values[name][values.index(scene.attributes[name])]
        return made

    def told(self, read: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
        """By attribute, of how many scenes the value's code is the nearest to what was read [N, T, D]."""
        shares = {}
        for number, (name, values) in enumerate(ATTRIBUTES.items()):
            own = read[:, number :: len(ATTRIBUTES)].mean(1)
            nearest = (own @ self.values[name].T).argmax(-1).tolist()
            right = [values[place] == scene.attributes[name] for place, scene in zip(nearest, scenes, strict=True)]
            shares[name] = round(sum(right) / len(right), 3)
        return shares
