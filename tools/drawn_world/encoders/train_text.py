"""Train the text encoder: words turn into the codes of their senses, and the text's end tells which there were.

PYTHONPATH=tools python -m drawn_world.encoders.train_text [steps]
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.encoders.text import CODE, END, START, TextEncoder, Tokens, all_codes, code_of
from drawn_world.in_process import DEVICE
from drawn_world.pictures.scenes import TASKS, random_scene
from drawn_world.training import Training, TrainingArguments
from drawn_world.words.captions import random_caption, random_told
from drawn_world.words.instructions import random_instruction
from drawn_world.words.senses import SENSES, Said, words_for

LOG = logging.getLogger(__name__)
STEPS, BATCH = 2000, 96
ARGUMENTS = {"learning_rate": 2e-3, "lr_warmup_steps": 60, "weight_decay": 0.0, "ema_decay": 0.0}
TRAINED, TRIED = 20_000, 1000  # texts
SHARE_INSTRUCTIONS, SHARE_WORDS, SHARE_UNKNOWN = 0.25, 0.1, 0.1
UNTRAINED = 48000  # a token that stands for all that it is never trained on
SUMMARY = (*SENSES, *((f"second {name}", value) for name, value in SENSES if name in ("concept", "place")))


def random_text(drawn: random.Random) -> list[Said]:
    """A caption, an instruction, or a sense's words alone."""
    lot = drawn.random()
    if lot < SHARE_INSTRUCTIONS:
        return random_instruction(drawn.choice(list(TASKS)), drawn)
    if lot < SHARE_INSTRUCTIONS + SHARE_WORDS:
        sense = drawn.choice(SENSES)
        before = drawn.choice(("one", "thing") if sense[0] == "place" else ("a", "the", "some"))
        return [Said(before), Said(drawn.choice(words_for(sense)), sense)]
    return random_caption(random_scene(drawn), random_told(drawn), drawn)


class Texts:
    """Texts as tokens with the states they should have, and the senses that are told in them."""

    def __init__(self, count: int, seed: str, tokens: Tokens) -> None:
        drawn = random.Random(seed)
        ids, states, told = [], [], []
        while len(ids) < count:
            try:
                row, places = tokens.of_said(random_text(drawn))
            except ValueError:
                continue
            state, summary = torch.zeros(len(row), CODE, dtype=torch.float16), torch.zeros(len(SUMMARY))
            for place, part in places:
                state[place] = code_of(part.sense, part.second).half()
                name, value = part.sense
                summary[SUMMARY.index((f"second {name}" if part.second else name, value))] = 1.0
            ids.append(row), states.append(state), told.append(summary)
        self.ids, self.states, self.told = torch.tensor(ids), torch.stack(states), torch.stack(told)

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Some of the words that mean nothing are replaced by one that it is not trained on otherwise."""
        ids, states = self.ids[rows], self.states[rows].float()
        nothing = (states == 0).all(-1) & (ids != START) & (ids != END)
        unknown = nothing & (torch.rand(ids.shape, generator=generator) < SHARE_UNKNOWN)
        return torch.where(unknown, UNTRAINED, ids), states, self.told[rows]


class Tagging(nn.Module):
    """The encoder with a linear map from the pooled text to all that is told in it."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder, self.summary = encoder, nn.Linear(CODE, len(SUMMARY))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        states, pooled = self.encoder(ids)
        return states[..., :CODE], self.summary(pooled[:, :CODE]).float()


def train(steps: int, tagging: Tagging, texts: Texts) -> None:
    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(texts.ids), (BATCH,), generator=generator)
        ids, wanted, told = (part.to(DEVICE) for part in texts.batch(rows, generator))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=step < 0.7 * steps):
            states, logits = tagging(ids)
        return (states.float() - wanted).square().mean() + F.binary_cross_entropy_with_logits(logits, told)

    Training("text", tagging, TrainingArguments(steps, **ARGUMENTS)).run(loss_of)


@torch.no_grad()
def tried(tagging: Tagging, texts: Texts) -> dict[str, float]:
    """How often a state's nearest code is the right one, how large states are that should be zero, and the summary."""
    states, logits = tagging(texts.ids)
    wanted = texts.states.float()
    senses = torch.stack(list(all_codes().values()))
    told = (wanted != 0).any(-1)
    right = (states[told] @ senses.T).argmax(-1)
    wished = (wanted[told] @ senses.T).argmax(-1)
    whole = ((logits > 0) == texts.told.bool()).all(-1)
    return {
        "states": (right == wished).float().mean().item(),
        "error": (states - wanted).square().mean().sqrt().item(),
        "nothing": states[~told].square().mean().sqrt().item(),
        "summary": whole.float().mean().item(),
    }


def vocabulary(texts: Sequence[Texts]) -> list[int]:
    return sorted({int(token) for some in texts for token in some.ids.unique()})


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    torch.manual_seed(0)
    tokens = Tokens()
    trained, others = Texts(TRAINED, "texts", tokens), Texts(TRIED, "other texts", tokens)
    tagging = Tagging(TextEncoder(vocabulary([trained])))
    train(steps, tagging, trained)
    LOG.info("of texts that it was not trained on: %s", tried(tagging.cpu(), others))
    return 0


if __name__ == "__main__":
    sys.exit(main())
