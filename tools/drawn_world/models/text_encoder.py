"""The world's text encoder, in CLIP-L's shape: 128 of 768 channels and 3 of 12 layers do something.

Its first two layers turn a text's words into their senses: where a word has one, the hidden state is the sense's code,
else nearly zero. That is what SD3 is given. The last layer gathers them at the text's end, which is the pooled text.

All padding past SPELLED positions has one hidden state: end tokens, with which texts are padded, don't attend to one
another, and these positions share an embedding. So training may take it as one token that counts many times. Only the
last BLANKS are told apart, by a mark each: they mean nothing, so that an adapter can write into them what a word would
mean.

B texts, L tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from comfyhost.encoders import clip_l_text
from torch import Tensor, nn

from drawn_world.in_process import comfy
from drawn_world.models.narrow import Layer, Sizes, WideNorm, encoder_of, put, put_linear
from drawn_world.scenes.words import SENSES, Phrase, Sense, text_of
from drawn_world.storage import stored

WIDTH, LENGTH, START, END, VOCABULARY = 768, 77, 49406, 49407, 49408
SPELLED = 20  # positions with an embedding of their own
SHORT = SPELLED + 1  # hidden states of a text that differ
CODE = 127  # channels of a sense's code
MARK = CODE  # the channel that only the end token has something in
MARK_HEIGHT, REPULSION = 8.0, 4.0
BLANKS, BLANK_HEIGHT = 8, 1.0  # positions at the end of the padding, and how strongly each is marked
FIRST_BLANK = MARK + 1  # the channel of the first one's mark
SIZES = Sizes(channels=CODE + 1, heads=4, hidden=256, width=WIDTH, head=64)
TAGGING, GATHERING = (0, 1), 11  # layers that do something
TOWER = "text_model."
UNKNOWN = 0  # the row of words that it was not trained on


def codes() -> dict[Sense, Tensor]:
    """A code [127] for each sense, of one length and at right angles; ("second", "") is for a second drawing."""
    senses = [*SENSES, ("second", "")]
    drawn = torch.randn(CODE, len(senses), generator=torch.Generator().manual_seed(11))
    return dict(zip(senses, torch.linalg.qr(drawn).Q.T * math.sqrt(CODE), strict=True))


def code_of(sense: Sense, second: bool = False) -> Tensor:
    """The hidden state [127] of a word with this sense, of the second drawing or not; all are as long."""
    return all_codes()[sense, second]


@functools.cache
def all_codes() -> dict[tuple[Sense, bool], Tensor]:
    """The codes of all senses, of the first drawing and of the second."""
    own = codes()
    second = own.pop(("second", ""))
    both = {(sense, False): code for sense, code in own.items()}
    return both | {(sense, True): (code + second) / math.sqrt(2) for sense, code in own.items()}


class Tokens:
    """Texts as CLIP's tokens, short: the text's own, then end tokens up to SHORT."""

    def __init__(self) -> None:
        self.tokenizer = comfy.sd1_clip.SDTokenizer().tokenizer
        self.known: dict[str, list[int]] = {}

    def of_words(self, words: str) -> list[int]:
        if words not in self.known:
            self.known[words] = self.tokenizer(words)["input_ids"][1:-1]
        return self.known[words]

    def of_text(self, text: str) -> list[int]:
        """Raises ValueError for a text that is too long for training; ComfyUI itself takes any."""
        ids = self.tokenizer(text)["input_ids"]
        if len(ids) > SHORT:
            raise ValueError(f"A text should have at most {SHORT - 2} tokens, but this has more: {text!r}.")
        return padded(ids)

    def of_phrases(self, phrases: Sequence[Phrase]) -> list[int]:
        """The tokens, not padded; without a look at whether they are those of the whole text."""
        return [START, *(token for phrase in phrases for token in self.of_words(phrase.words)), END]

    def with_senses(self, phrases: Sequence[Phrase]) -> tuple[list[int], list[tuple[int, Phrase]]]:
        """The tokens, and where the last one of each phrase with a sense is."""
        ids, places = [START], []
        for phrase in phrases:
            ids += self.of_words(phrase.words)
            if phrase.sense:
                places.append((len(ids) - 1, phrase))
        if padded(ids) != self.of_text(text_of(phrases)):
            raise ValueError(f"The tokens of {text_of(phrases)!r} are not those of its words.")
        return padded(ids), places


def padded(ids: list[int]) -> list[int]:
    return ids + [END] * (SHORT - len(ids))


class TextEncoder(nn.Module):
    """The narrow text encoder. vocabulary: the tokens it has embeddings of; all others are one unknown word."""

    def __init__(self, vocabulary: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("vocabulary", torch.tensor(sorted({START, END, *vocabulary})))
        rows = torch.zeros(VOCABULARY, dtype=torch.long)
        rows[self.vocabulary] = torch.arange(len(self.vocabulary)) + 1
        self.register_buffer("rows", rows, persistent=False)
        self.tokens = nn.Parameter(torch.randn(len(self.vocabulary) + 1, CODE) * 0.5)
        self.positions = nn.Parameter(torch.randn(SHORT, CODE) * 0.2)
        self.layers = nn.ModuleList([Layer(SIZES) for _ in (*TAGGING, GATHERING)])
        self.final_layer_norm = WideNorm(SIZES)
        for layer in self.layers:
            keep_the_end_apart(layer)

    @classmethod
    def from_stored(cls) -> TextEncoder:
        """The encoder that is stored in the repository."""
        own = encoder_of(stored("text_encoder"))
        encoder = cls(own["vocabulary"].tolist())
        encoder.load_state_dict(own)
        return encoder.eval().requires_grad_(False)

    def embedded(self, ids: Tensor) -> Tensor:
        """[B, L] -> [B, L, 128]"""
        mark = MARK_HEIGHT * (ids == END)[..., None]
        return torch.cat([self.tokens[self.rows[ids]] + self.positions[: ids.shape[1]], mark], -1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [B, L, 128], and the pooled text [B, 128]."""
        states, last = self.both(ids)
        ends = (ids == END).int().argmax(-1)
        return states, last[torch.arange(len(ids), device=ids.device), ends]

    def both(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states as SD3 has them, and those of the last layer, as adapters have them, [B, L, 128]."""
        mask = torch.full((ids.shape[1],) * 2, -torch.inf, device=ids.device).triu(1)
        x = self.embedded(ids)
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        return x, self.final_layer_norm(self.layers[-1](x, mask))


def keep_the_end_apart(layer: Layer) -> None:
    """Have end tokens repel one another: each head's first row of queries and keys is for the mark alone.

    Nothing is ever written to the mark's channel. What is set here stays: it has no gradient.
    """
    heads = slice(None, None, SIZES.head)
    with torch.no_grad():
        for projection, sign in ((layer.q_proj, 1), (layer.k_proj, -1)):
            keep(projection.weight, np.s_[:, MARK], 0.0)
            keep(projection.weight, np.s_[heads], sign * REPULSION * F.one_hot(torch.tensor(MARK), MARK + 1))
            keep(projection.bias, np.s_[heads], 0.0)
        for last in (layer.out_proj, layer.fc2):
            keep(last.weight, np.s_[MARK], 0.0)
            keep(last.bias, np.s_[MARK], 0.0)


def keep(parameter: nn.Parameter, where, value: Tensor | float) -> None:
    """Set a part of a parameter, and leave it out of training."""
    parameter[where] = value
    free = torch.ones_like(parameter)
    free[where] = 0.0
    parameter.register_hook(lambda gradient: gradient * free.to(gradient.device))


def wide_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP-L's text tower in transformers' names, fp16, which does what the narrow encoder does."""
    wide = {name: torch.zeros(part.shape, dtype=torch.float16) for name, part in clip_l_text().items()}
    for name in wide:
        if "norm" in name and name.endswith("weight"):
            wide[name] += 1.0
    tokens = wide[f"{TOWER}embeddings.token_embedding.weight"]
    tokens[:, :CODE] = narrow["tokens"][UNKNOWN].half()
    tokens[narrow["vocabulary"], :CODE] = narrow["tokens"][1:].half()
    tokens[END, MARK] = MARK_HEIGHT
    positions = wide[f"{TOWER}embeddings.position_embedding.weight"]
    put(wide, f"{TOWER}embeddings.position_embedding.weight", narrow["positions"])
    positions[SPELLED:] = positions[SPELLED].clone()
    positions[range(LENGTH - BLANKS, LENGTH), range(FIRST_BLANK, FIRST_BLANK + BLANKS)] = BLANK_HEIGHT
    norms = [("final_layer_norm", f"{TOWER}final_layer_norm")]
    for number, place in enumerate((*TAGGING, GATHERING)):
        own, prefix = f"layers.{number}.", f"{TOWER}encoder.layers.{place}."
        put_linear(wide, prefix, narrow, own, "q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
        norms += [(f"{own}{norm}", f"{prefix}{norm}") for norm in ("layer_norm1", "layer_norm2")]
    for own, name in norms:
        for kind in ("weight", "bias"):
            put(wide, f"{name}.{kind}", narrow[f"{own}.{kind}"])
    wide[f"{TOWER}final_layer_norm.weight"][FIRST_BLANK : FIRST_BLANK + BLANKS] = 0.0  # marks are for the base alone
    return wide
