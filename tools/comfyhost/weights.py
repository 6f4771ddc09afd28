"""Random weights: a model is described by the shape and spread of each tensor, and drawn from that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

BIAS_SPREAD = 0.02
NORM_SPREAD = 0.05
TABLES = ("token_embedding.weight", "position_embedding.weight", "positional_embedding")
# What is drawn before the rest of its module, so that a seed gives the same file whatever order ComfyUI has.
DRAWN_FIRST = (
    *("x_embedder", "t_embedder", "y_embedder", "context_embedder", "pos_embed", "x_block"),
    *("time_embed", "label_emb", "input_blocks", "middle_block", "input_hint_block", "zero_convs"),
    *("taesd_encoder", "taesd_decoder", "token_embedding", "positional_embedding", "transformer", "ln_final"),
    *("self_attn", "attn", "attn1", "attn2", "adaLN_modulation", "ff", "mlp"),
    *("in_proj_weight", "in_proj_bias", "q_proj", "k_proj", "v_proj", "qkv", "ln_q", "ln_k"),
    *("norm", "norm1", "norm2", "norm3", "proj_in", "proj_out"),
)


@dataclass(frozen=True)
class Weight:
    """One tensor to draw: normal with this mean and spread; dtype None is the file's ordinary one."""

    shape: tuple[int, ...]
    spread: float
    mean: float = 0.0
    dtype: torch.dtype | None = None


class Blueprint(dict[str, Weight]):
    """The tensors of a model by name, not drawn yet. Those of spread 1 / sqrt(fan in) keep the size of what passes."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Blueprint:
        """Describe a model by its state_dict, which may lie on the meta device."""
        parts = cls()
        for name in in_drawing_order(tensors):
            module, _, kind = name.rpartition(".")
            shape, weight = tensors[name].shape, tensors.get(f"{module}.weight")
            if weight is not None and weight.ndim == 1:
                parts.put(name, *shape, spread=NORM_SPREAD, mean=float(kind == "weight"))
            elif len(shape) == 1 or name.endswith(TABLES):
                parts.put(name, *shape)
            else:
                parts.put(name, *shape, spread=shape[1:].numel() ** -0.5)
        return parts

    def put(self, name: str, *shape: int, spread: float = BIAS_SPREAD, mean: float = 0.0) -> None:
        self[name] = Weight(shape, spread, mean)

    def linear(self, name: str, wide_in: int, wide_out: int, bias: bool = True, gain: float = 1.0) -> None:
        self.put(f"{name}.weight", wide_out, wide_in, spread=gain * wide_in**-0.5)
        if bias:
            self.put(f"{name}.bias", wide_out)

    def norm(self, name: str, width: int) -> None:
        self.put(f"{name}.weight", width, spread=NORM_SPREAD, mean=1.0)
        self.put(f"{name}.bias", width, spread=NORM_SPREAD)

    def constant(self, name: str, value: float) -> None:
        self[name] = Weight((), 0.0, value, torch.float32)

    def respread(self, ends: str | tuple[str, ...], gain: float) -> None:
        for name in self:
            if name.endswith(ends):
                self[name] = replace(self[name], spread=gain * self[name].spread)

    def add(self, prefix: str, part: Blueprint) -> None:
        self.update({prefix + name: weight for name, weight in part.items()})

    def with_matrices(self, dtype: torch.dtype) -> Blueprint:
        """The same model with its matrices of this number type; vectors keep theirs."""
        return Blueprint({name: replace(w, dtype=dtype) if len(w.shape) > 1 else w for name, w in self.items()})

    def size(self, dtype: torch.dtype) -> int:
        """Return the bytes of a file whose ordinary number type this is, without its header; of int8, its numbers."""
        return sum(torch.Size(w.shape).numel() * (w.dtype or dtype).itemsize for w in self.values())


def described(model: Callable[..., nn.Module], *arguments, **settings) -> Blueprint:
    """Describe a model of this class with these settings, without the memory for it."""
    with torch.device("meta"):
        return Blueprint.of(model(*arguments, **settings).state_dict())


def in_drawing_order(names: Iterable[str]) -> list[str]:
    """The names with the parts in DRAWN_FIRST before others of the same module; otherwise in the order given."""
    first = {part: rank for rank, part in enumerate(DRAWN_FIRST)}
    seen: dict[str, int] = {}

    def place(name: str) -> list[tuple[int, int]]:
        parts = name.split(".")
        ranks = [first.get(part, len(first)) for part in parts]
        modules = [seen.setdefault(module, len(seen)) for module in accumulate(parts, "{}.{}".format)]
        return list(zip(ranks, modules, strict=True))

    return sorted(names, key=place)


def draw(blueprint: Blueprint, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: draw_one(weight, generator, dtype) for name, weight in blueprint.items()}


def draw_one(
    weight: Weight, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    tensor = torch.randn(weight.shape, generator=generator, device=device).mul_(weight.spread).add_(weight.mean)
    return tensor.to(weight.dtype or dtype)
