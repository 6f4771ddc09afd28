"""Set up a training: from a model, its encoders and pairs to a trainer, for the node and for the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..adapter.checkpoint import AdapterCheckpoint
from ..files.tensor_cache import TensorCache
from .accelerator import Accelerator, SingleProcess
from .dataset import Encoders, Progress, encode_pairs
from .frozen_base import FrozenBase, trainable_family
from .initial_checkpoint import Shape, initial_checkpoint
from .pairs import Pair
from .trainable_adapter import TrainableAdapter
from .trainer import Trainer
from .training_arguments import TrainingArguments


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """All that a training is made of.

    model: ComfyUI's ModelPatcher of the base model. initial: the adapter to start from, or the shape of a new one.
    """

    model: Any
    encoders: Encoders
    pairs: Sequence[Pair]
    initial: AdapterCheckpoint | Shape
    arguments: TrainingArguments

    def trainer(self, cache: TensorCache, progress: Progress, accelerator: Accelerator | None = None) -> Trainer:
        """Encode what is not in the cache yet, and return the trainer before its first step.

        Raises ValueError for a model that cannot be trained on, an adapter that does not fit it, and pairs that cannot
        be encoded.
        """
        base = FrozenBase(self.model, trainable_family(self.model), self.arguments.dtype)
        start = initial_checkpoint(self.initial, base, self.arguments.seed)
        dataset = encode_pairs(self.pairs, self.encoders, base, cache, progress)
        return Trainer(TrainableAdapter(start), base, dataset, self.arguments, accelerator or SingleProcess())
