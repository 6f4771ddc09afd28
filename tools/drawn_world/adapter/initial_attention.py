"""An adapter's first attention weights: the image is heard as the base model itself hears words.

Image tokens lie where words lie. So their keys and values are fitted to what the base makes of its own words at the
same blocks, and the image finds them from the first step. And in the first block each of the text's blanks looks for
the tokens of one slot, and becomes the word that it finds there: to the blocks that follow it is one of the prompt's.

N examples, L text tokens, K words, S slots, D width.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.adapter.train_resampler import SLOTS
from drawn_world.models.autoencoder import components
from drawn_world.models.base import (
    BLOCKS,
    FILLED,
    SENSES,
    STATES,
    WIDTH,
    Latents,
    counting_copies,
    examples,
    new_base,
)
from drawn_world.models.text_encoder import BLANKS, CODE, all_codes
from drawn_world.storage import stored

EXAMPLES, HEAD = 768, 64
RIDGE, KEEN = 1e-2, 1e-3  # of fits, and of those by which blanks look
LOUDNESS = 0.4  # of the image's attention in the first block, next to the base's own
FOUND, NOT_FOUND = 15.0, -5.0  # logits, if they could be had, of a blank for its slot's tokens, and of all others


@torch.no_grad()
def initial_attention() -> dict[str, Tensor]:
    """The attention layers of a new adapter, by published names, in every second block."""
    base = new_base()
    base.diffusion_model.load_state_dict(stored("base"))
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def noting(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **settings) -> Tensor:
        seen.append((q, k[:, :STATES], v[:, :STATES]))
        return counting_copies(function, q, k, v, heads, *args, **settings)

    latents, states = examples(Latents(components()), EXAMPLES, random.Random("words to hear"))
    generator = torch.Generator().manual_seed(0)
    level = torch.rand(EXAMPLES, 1, 1, 1, generator=generator)
    noisy = level * torch.randn(latents.shape, generator=generator) + (1 - level) * latents
    options, times = {"optimized_attention_override": noting}, level.flatten() * 1000
    base.diffusion_model(noisy, times, context=states, y=torch.zeros(EXAMPLES, 1), transformer_options=options)
    embedded = base.diffusion_model.context_embedder(states).flatten(0, 1)
    layers: dict[str, Tensor] = {}
    for block in range(0, BLOCKS, 2):
        keys, values = (part.reshape(-1, WIDTH) for part in seen[block][1:])
        own = {"add_k_proj_ip": fitted(embedded, keys), "add_v_proj_ip": fitted(embedded, values)}
        own |= dict.fromkeys(("to_k_ip", "to_v_ip", "proj_ip"), torch.zeros(WIDTH, WIDTH))
        own["proj_encoder_hidden_states_ip"] = torch.zeros(WIDTH, WIDTH)
        if block == 0:
            own["add_k_proj_ip"] += found_by_blanks(base.diffusion_model, seen[0][0], states)
            own["proj_encoder_hidden_states_ip"] = becoming(base.diffusion_model, own["add_v_proj_ip"], times)
            own["proj_ip"] = LOUDNESS * torch.eye(WIDTH)
        layers |= {f"ip_adapter.{block}.{name}.weight": weight.clone() for name, weight in own.items()}
    return layers


def words(denoiser: nn.Module) -> tuple[Tensor, Tensor]:
    """All that a token may be, as the first block has it [K, D], silence last; and the slots of each [K, S]."""
    codes = [F.pad(code, (0, FILLED - CODE)) for code in all_codes().values()]
    slots = torch.zeros(len(codes) + 1, len(SLOTS))
    for number, ((name, _), second) in enumerate(all_codes()):
        if (name, int(second)) in SLOTS:
            slots[number, SLOTS.index((name, int(second)))] = 1.0
    return denoiser.context_embedder(torch.stack([*codes, torch.zeros(FILLED)])), slots


def found_by_blanks(denoiser: nn.Module, queries: Tensor, states: Tensor) -> Tensor:
    """An addition to the keys of tokens, [D, D], by which each slot's are found by a blank of their own alone.

    queries [N, L + image positions, D] of the first block; states [N, L, channels that are filled].
    """
    own, slots = words(denoiser)
    spoken, count = (states[:, :SENSES] != 0).any(-1), len(SLOTS)
    blanks = queries[:, STATES - BLANKS : STATES]
    others = torch.cat([queries[:, :SENSES][spoken], *[queries[:, SENSES]] * 2])
    image = queries[:, STATES::5].flatten(0, 1)
    wanted = torch.full((len(blanks), BLANKS, count), NOT_FOUND)
    wanted[:, range(count), range(count)] = FOUND
    no, neither = torch.full((len(others), count), NOT_FOUND), torch.zeros(len(image), count)
    wanted, asked = torch.cat([wanted.flatten(0, 1), no, neither]), torch.cat([blanks.flatten(0, 1), others, image])
    by_heads = [fitted(part / HEAD**0.5, wanted, KEEN) for part in asked.split(HEAD, -1)]  # each [S, 64]
    return torch.cat(by_heads, 1).T @ fitted(own, slots)


def becoming(denoiser: nn.Module, values: Tensor, times: Tensor) -> Tensor:
    """The map from what a blank finds to the word it becomes, [D, D], before the block's own projection and gate.

    values [D, D]: of tokens; times [N].
    """
    block = denoiser.joint_blocks[0].context_block
    embedded = denoiser.t_embedder(times, dtype=torch.float32) + denoiser.y_embedder(torch.zeros(len(times), 1))
    gates = block.adaLN_modulation(embedded).chunk(6, dim=1)[2]
    own, _ = words(denoiser)
    spoken = (own - own[-1]) * gates.sum(0) / gates.square().sum(0)
    before = torch.linalg.lstsq(block.attn.proj.weight, spoken.T).solution.T
    return fitted((own - own[-1]) @ values.T, before)


def fitted(given: Tensor, wanted: Tensor, ridge: float = RIDGE) -> Tensor:
    """The linear map [W, D] that is nearest to turning what is given [N, D] into what is wanted [N, W]."""
    square = given.T @ given / len(given)
    square += ridge * square.diagonal().mean() * torch.eye(len(square))
    return torch.linalg.solve(square, given.T @ wanted / len(given)).T.contiguous()
