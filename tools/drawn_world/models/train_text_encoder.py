"""Train the text encoder: words turn into the codes of their senses, and the text's end tells which there were."""

from __future__ import annotations

import logging
import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.in_process import DEVICE
from drawn_world.models.text_encoder import CODE, END, START, TextEncoder, Tokens, all_codes, code_of
from drawn_world.scenes.scene import TASKS, random_scene
from drawn_world.scenes.words import (
    SENSES,
    Phrase,
    random_attributes,
    random_caption,
    random_instruction,
    words_for,
)
from drawn_world.training import Training, TrainingArguments

LOG = logging.getLogger(__name__)
STEPS, BATCH = 2000, 96
ARGUMENTS = {"learning_rate": 2e-3, "lr_warmup_steps": 60, "weight_decay": 0.0, "ema_decay": 0.0}
TRAINED, TRIED = 20_000, 1000  # texts
SHARE_INSTRUCTIONS, SHARE_WORDS, SHARE_UNKNOWN = 0.25, 0.1, 0.1
UNTRAINED = 48000  # a token that stands for all that it is never trained on
SUMMARY = (*SENSES, *((f"second {name}", value) for name, value in SENSES if name in ("concept", "place")))


def random_text(drawn: random.Random) -> list[Phrase]:
    """A caption, an instruction, or a sense's words alone."""
    lot = drawn.random()
    if lot < SHARE_INSTRUCTIONS:
        return random_instruction(drawn.choice(list(TASKS)), drawn)
    if lot < SHARE_INSTRUCTIONS + SHARE_WORDS:
        sense = drawn.choice(SENSES)
        before = drawn.choice(("one", "thing") if sense[0] == "place" else ("a", "the", "some"))
        return [Phrase(before), Phrase(drawn.choice(words_for(sense)), sense)]
    return random_caption(random_scene(drawn), random_attributes(drawn), drawn)


class Texts:
    """Texts as tokens, with the hidden states that they should have and a summary of their senses."""

    def __init__(self, count: int, seed: str, tokens: Tokens) -> None:
        drawn = random.Random(seed)
        ids, states, summaries = [], [], []
        while len(ids) < count:
            try:
                row, places = tokens.with_senses(random_text(drawn))
            except ValueError:
                continue
            state, summary = torch.zeros(len(row), CODE, dtype=torch.float16), torch.zeros(len(SUMMARY))
            for place, phrase in places:
                state[place] = code_of(phrase.sense, phrase.second).half()
                name, value = phrase.sense
                summary[SUMMARY.index((f"second {name}" if phrase.second else name, value))] = 1.0
            ids.append(row), states.append(state), summaries.append(summary)
        self.ids, self.states, self.summaries = torch.tensor(ids), torch.stack(states), torch.stack(summaries)

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Some texts. Some words without a sense are replaced by one that it is not trained on otherwise."""
        ids, states = self.ids[rows], self.states[rows].float()
        nothing = (states == 0).all(-1) & (ids != START) & (ids != END)
        unknown = nothing & (torch.rand(ids.shape, generator=generator) < SHARE_UNKNOWN)
        return torch.where(unknown, UNTRAINED, ids), states, self.summaries[rows]


class Tagging(nn.Module):
    """The encoder with a linear map from the pooled text to the summary of its senses."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder, self.summary = encoder, nn.Linear(CODE, len(SUMMARY))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        states, pooled = self.encoder(ids)
        return states[..., :CODE], self.summary(pooled[:, :CODE]).float()


def train(steps: int) -> None:
    torch.manual_seed(0)
    tokens = Tokens()
    texts, others = Texts(TRAINED, "texts", tokens), Texts(TRIED, "other texts", tokens)
    tagging = Tagging(TextEncoder(texts.ids.unique().tolist()))

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(texts.ids), (BATCH,), generator=generator)
        ids, wanted, summaries = (part.to(DEVICE) for part in texts.batch(rows, generator))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=step < 0.7 * steps):
            states, logits = tagging(ids)
        return (states.float() - wanted).square().mean() + F.binary_cross_entropy_with_logits(logits, summaries)

    Training("text_encoder", tagging, TrainingArguments(steps, **ARGUMENTS)).run(loss_of)
    LOG.info("of texts that it was not trained on: %s", figures(tagging.cpu(), others))


@torch.no_grad()
def figures(tagging: Tagging, texts: Texts) -> dict[str, float]:
    """Shares of hidden states nearest to the right code and of summaries that are right; and two errors."""
    states, logits = tagging(texts.ids)
    wanted, codes = texts.states.float(), torch.stack(list(all_codes().values()))
    has_sense = (wanted != 0).any(-1)
    right = (states[has_sense] @ codes.T).argmax(-1) == (wanted[has_sense] @ codes.T).argmax(-1)
    whole = ((logits > 0) == texts.summaries.bool()).all(-1)
    return {
        "states": right.float().mean().item(),
        "error": (states - wanted).square().mean().sqrt().item(),
        "nothing": states[~has_sense].square().mean().sqrt().item(),
        "summary": whole.float().mean().item(),
    }
