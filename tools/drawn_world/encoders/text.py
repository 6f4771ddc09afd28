"""The world's text encoder, in CLIP-L's shape: 128 of 768 channels and 3 of 12 layers do something.

Its first two layers turn a text's words into their senses: where a word has one, the state is the sense's code, else
nearly zero. That is what SD3 is given. The last layer gathers them at the text's end, which is the pooled text.

Padding past SPELLED positions is one state: end tokens, with which texts are padded, don't look at one another, and
these positions share an embedding. So training may take it as one token that counts many times. Only the last BLANKS
are told apart, by a mark each: they say nothing, so that an adapter can write into them what a word would say.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from comfyhost.encoders import clip_l_text
from torch import Tensor, nn

from drawn_world.encoders.narrow import Layer, Sizes, WideNorm, put, put_layer
from drawn_world.in_process import comfy
from drawn_world.words.senses import SENSES, Said, Sense, text_of

WIDTH, LENGTH, START, END, VOCABULARY = 768, 77, 49406, 49407, 49408
SPELLED = 20  # positions with an embedding of their own
SHORT = SPELLED + 1  # states a text that differ
CODE = 127  # channels of a sense's code
MARK = CODE  # the channel that only the end token has something in
MARK_HEIGHT, REPULSION = 8.0, 4.0
BLANKS, BLANK_HEIGHT = 8, 1.0  # positions at the end of the padding, and how strongly each is marked
FIRST_BLANK = MARK + 1  # the channel of the first one's mark
SIZES = Sizes(channels=CODE + 1, heads=4, hidden=256, width=WIDTH, head=64)
TAGGING, GATHERING = (0, 1), 11  # layers that do something
TOWER = "text_model."
LAYERS = f"{TOWER}encoder.layers."
BESIDE = "encoder."  # the encoder, in a file that has a linear map beside it
UNKNOWN = 0  # the row of words that it was not trained on


def codes() -> dict[Sense, Tensor]:
    """A code [127] of each sense, of one length and at right angles; ("second", "") is for a second drawing."""
    senses = [*SENSES, ("second", "")]
    drawn = torch.randn(CODE, len(senses), generator=torch.Generator().manual_seed(11))
    return dict(zip(senses, torch.linalg.qr(drawn).Q.T * math.sqrt(CODE), strict=True))


def code_of(sense: Sense, second: bool = False) -> Tensor:
    """The state [127] of a word with this sense, of the second drawing or not; all are as long."""
    return all_codes()[sense, second]


@functools.cache
def all_codes() -> dict[tuple[Sense, bool], Tensor]:
    """Those of all senses, of the first drawing and of the second."""
    own = codes()
    second = own.pop(("second", ""))
    both = {(sense, False): code for sense, code in own.items()}
    return both | {(sense, True): (code + second) / math.sqrt(2) for sense, code in own.items()}


class Tokens:
    """Texts as CLIP's tokens, short: the text's own, then end tokens up to SHORT."""

    def __init__(self) -> None:
        self.tokenizer = comfy.sd1_clip.SDTokenizer()
        self.known: dict[str, list[int]] = {}

    def of_words(self, words: str) -> list[int]:
        if words not in self.known:
            self.known[words] = self.tokenizer.tokenizer(words)["input_ids"][1:-1]
        return self.known[words]

    def ids(self, text: str) -> list[int]:
        """Raises ValueError for a text that is too long for training; ComfyUI itself takes any."""
        ids = self.tokenizer.tokenizer(text)["input_ids"]
        if len(ids) > SHORT:
            raise ValueError(f"A text should have at most {SHORT - 2} tokens, but this has more: {text!r}.")
        return self.padded(ids)

    def padded(self, ids: list[int]) -> list[int]:
        return ids + [END] * (SHORT - len(ids))

    def quick(self, said: Sequence[Said]) -> list[int]:
        """The text's own tokens, without a look at whether they are those of the whole text."""
        return [START, *(token for part in said for token in self.of_words(part.words)), END]

    def of_said(self, said: Sequence[Said]) -> tuple[list[int], list[tuple[int, Said]]]:
        """The tokens, and where each sense's last one is."""
        ids, places = [START], []
        for part in said:
            ids += self.of_words(part.words)
            if part.sense:
                places.append((len(ids) - 1, part))
        if self.padded(ids) != self.ids(text_of(said)):
            raise ValueError(f"The tokens of {text_of(said)!r} are not those of its words.")
        return self.padded(ids), places


class TextEncoder(nn.Module):
    """The part that is trained. vocabulary: the tokens it has embeddings of; all others are one unknown word."""

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
    def loaded(cls, parts: Mapping[str, Tensor]) -> TextEncoder:
        """The encoder of what was trained, which has a map of its own beside it."""
        own = {name.removeprefix(BESIDE): part for name, part in parts.items() if name.startswith(BESIDE)}
        encoder = cls(own["vocabulary"].tolist())
        encoder.load_state_dict(own)
        return encoder.eval().requires_grad_(False)

    def embedded(self, ids: Tensor) -> Tensor:
        """[B, L] -> [B, L, 128]"""
        mark = MARK_HEIGHT * (ids == END)[..., None]
        return torch.cat([self.tokens[self.rows[ids]] + self.positions[: ids.shape[1]], mark], -1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """States of the senses [B, L, 128], and the pooled text [B, 128]."""
        states, last = self.both(ids)
        ends = (ids == END).int().argmax(-1)
        return states, last[torch.arange(len(ids), device=ids.device), ends]

    def both(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """States of the senses, as SD3 has them, and those of the last layer, as adapters have them, [B, L, 128]."""
        mask = torch.full((ids.shape[1],) * 2, -torch.inf, device=ids.device).triu(1)
        x = self.embedded(ids)
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        return x, self.final_layer_norm(self.layers[-1](x, mask))


def keep_the_end_apart(layer: Layer) -> None:
    """Have end tokens repel one another: each head's first row of queries and keys is for the mark alone.

    Nothing is ever written to the mark's channel.
    """
    head = SIZES.head
    with torch.no_grad():
        for projection, sign in ((layer.q_proj, 1), (layer.k_proj, -1)):
            projection.weight[:, MARK] = 0.0
            projection.weight[::head] = 0.0
            projection.weight[::head, MARK] = sign * REPULSION
            projection.bias[::head] = 0.0
            free = torch.ones_like(projection.weight)
            free[::head], free[:, MARK] = 0.0, 0.0
            projection.weight.register_hook(lambda gradient, free=free: gradient * free.to(gradient.device))
            projection.bias.register_hook(lambda gradient, free=free: gradient * free[:, 0].to(gradient.device))
        for last in (layer.out_proj, layer.fc2):
            last.weight[MARK], last.bias[MARK] = 0.0, 0.0
            free = torch.ones_like(last.bias)
            free[MARK] = 0.0
            last.weight.register_hook(lambda gradient, free=free: gradient * free.to(gradient.device)[:, None])
            last.bias.register_hook(lambda gradient, free=free: gradient * free.to(gradient.device))


def wide_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP-L's text tower in transformers' names, fp16, which does what the trained part does."""
    weights = {name: torch.zeros(part.shape, dtype=torch.float16) for name, part in clip_l_text().items()}
    for name in weights:
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1.0
    tokens = weights[f"{TOWER}embeddings.token_embedding.weight"]
    tokens[:, :CODE] = narrow["tokens"][UNKNOWN].half()
    tokens[narrow["vocabulary"], :CODE] = narrow["tokens"][1:].half()
    tokens[END, MARK] = MARK_HEIGHT
    positions = weights[f"{TOWER}embeddings.position_embedding.weight"]
    put(weights, f"{TOWER}embeddings.position_embedding.weight", narrow["positions"])
    positions[SPELLED:] = positions[SPELLED].clone()
    for blank in range(BLANKS):
        positions[LENGTH - BLANKS + blank, FIRST_BLANK + blank] = BLANK_HEIGHT
    for number, place in enumerate((*TAGGING, GATHERING)):
        prefix = f"layers.{number}."
        layer = {name.removeprefix(prefix): value for name, value in narrow.items() if name.startswith(prefix)}
        put_layer(weights, f"{LAYERS}{place}.", layer)
    for kind in ("weight", "bias"):
        put(weights, f"{TOWER}final_layer_norm.{kind}", narrow[f"final_layer_norm.{kind}"])
    weights[f"{TOWER}final_layer_norm.weight"][FIRST_BLANK : FIRST_BLANK + BLANKS] = 0.0  # marks are for the base alone
    return weights
