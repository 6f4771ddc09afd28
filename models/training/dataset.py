"""Turn pairs into what is learnt from, by the encoders of a ComfyUI graph.

Axes: H and W of a picture, C latent channels, h and w latent sides, N image patches and class token, L text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import comfy.model_management as mm
import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..encoding.image_encoder import image_features, zero_image_states
from ..encoding.text_cache import conditionings
from ..encoding.text_encoder import check_clip_l, encode_texts
from ..messages import check_letters
from ..reference.stored_embeds import fingerprint
from .batch import Batch, Seen, stacked
from .frozen_base import FrozenBase
from .pairs import Pair, by_task
from .state_cache import StateStore

Progress = Callable[[int, int, str], None]
"""Told how many of how many are done, and what is being done."""


@dataclass(frozen=True, eq=False)
class Encoders:
    """The CLIP, VAE and CLIP_VISION of a graph. size: a target's height and width in pixels.

    instruct_clip: what reads texts for the resampler, where clip has no CLIP-L of its own.
    """

    clip: Any
    vae: Any
    clip_vision: Any
    size: tuple[int, int]
    instruct_clip: Any = None

    def reference(self, picture: Tensor) -> dict[str, Tensor]:
        """Return the states [N, 1280] of a picture [H, W, 3], fp16."""
        states = cast(Tensor, image_features(self.clip_vision, picture[None]).states)
        return {"states": states[0].half()}

    def target(self, picture: Tensor, base: FrozenBase) -> dict[str, Tensor]:
        """Return a picture's latents [C, h, w] as the denoiser has them; what is too long of [H, W, 3] is cut off."""
        height, width = self.size
        pixels = comfy.utils.common_upscale(picture[None].movedim(-1, 1), width, height, "lanczos", "center")
        with torch.random.fork_rng():  # some autoencoders draw their latents
            torch.manual_seed(0)
            latents = self.vae.encode(pixels.movedim(1, -1))
        return {"latents": base.latent_format.process_in(latents)[0].float()}

    def text(self, text: str) -> dict[str, Tensor]:
        """Encode a caption or instruction: the resampler's states [L, 768], the denoiser's context and pooled text."""
        [[context, values]] = conditionings(self.clip, [text])[0]
        states = encode_texts(self.instruct_clip or self.clip, [text])[text]
        pooled = values.get("pooled_output")
        made = {"states": states[0].half(), "context": context[0].half()}
        return made if pooled is None else {**made, "pooled": pooled[0].half()}

    def fingerprints(self) -> dict[str, str]:
        """Return a fingerprint of each encoder as it is now, with patches that others have put on it."""
        parts = {
            "picture": (self.clip_vision.model, self.clip_vision.patcher),
            "latent": (self.vae.first_stage_model, self.vae.patcher),
            "text": (self.clip.cond_stage_model, self.clip.patcher),
        }
        if self.instruct_clip is not None:
            module = getattr(self.instruct_clip, "cond_stage_model", None) or self.instruct_clip.model
            parts["instruction"] = (module, self.instruct_clip.patcher)
        return {
            name: f"{fingerprint(module.state_dict())} {patcher.patches_uuid if patcher.patches else ''}"
            for name, (module, patcher) in parts.items()
        }


class PairLessons:
    """A source of examples drawn from pairs, all of whose states are on disk; see `encoded`."""

    def __init__(self, pairs: Sequence[Pair], files: dict, zero: Tensor):
        self.pairs, self._files = list(pairs), files
        self.tasks = by_task(pairs)
        self.instructions = [text for texts in self.tasks.values() for text in texts]
        self.blank = self._told(zero, "", "")

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        drawn = torch.randint(len(self.pairs), (count,), generator=generator).tolist()
        return self.examples([(number, self._instruction(number, generator)) for number in drawn])

    def examples(self, wanted: Iterable[tuple[int, str]]) -> Batch:
        """Return pairs by their numbers, each with the instruction to be told."""
        rows = [(self._pair(number), self.pairs[number], text) for number, text in wanted]
        seen = [self._told(row["states"][None].float(), pair.caption, text) for row, pair, text in rows]
        return Batch(torch.stack([row["latents"] for row, _, _ in rows]), stacked(seen))

    def of_task(self, task: str) -> list[int]:
        """Return the numbers of a task's pairs."""
        return [number for number, pair in enumerate(self.pairs) if pair.task == task]

    def _instruction(self, number: int, generator: torch.Generator) -> str:
        texts = self.pairs[number].instructions
        return texts[int(torch.randint(len(texts), (1,), generator=generator))]

    def _pair(self, number: int) -> dict[str, Tensor]:
        condition, target = self._files[number]
        return {**load_file(condition), **load_file(target)}

    def _told(self, image_states: Tensor, caption: str, instruction: str) -> Seen:
        prompt, instructed = (load_file(self._files[text]) for text in (caption, instruction))
        pooled = prompt.get("pooled")
        return Seen(
            image_states,
            instructed["states"][None].float(),
            prompt["states"][None].float(),
            prompt["context"][None].float(),
            None if pooled is None else pooled[None].float(),
        )


def encoded(
    pairs: Sequence[Pair], encoders: Encoders, base: FrozenBase, store: StateStore, progress: Progress
) -> PairLessons:
    """Run the encoders on all that is not in the store yet.

    Raises ValueError for a CLIP that cannot read instructions, a text with half a character, and a pair whose picture
    cannot be read.
    """
    check_clip_l(encoders.instruct_clip or encoders.clip)
    texts = dict.fromkeys(["", *(pair.caption for pair in pairs), *(t for pair in pairs for t in pair.instructions)])
    for text in texts:
        check_letters("A caption or instruction", text)
    marks = encoders.fingerprints()
    done, count, files = 0, len(texts) + len(pairs), {}
    for text in texts:
        mm.throw_exception_if_processing_interrupted()
        files[text] = store.path("text", marks["text"] + marks.get("instruction", ""), text)
        store.fill(files[text], lambda text=text: encoders.text(text))
        progress(done := done + 1, count, "texts")
    for number, pair in enumerate(pairs):
        mm.throw_exception_if_processing_interrupted()
        files[number] = _pictures(pair, encoders, base, store, marks)
        progress(done := done + 1, count, "pictures")
    return PairLessons(pairs, files, zero_image_states(encoders.clip_vision))


def _pictures(pair: Pair, encoders: Encoders, base: FrozenBase, store: StateStore, marks: dict[str, str]) -> tuple:
    condition, target = (_read(pair, name) for name in ("condition", "target"))
    condition_file = store.path("picture", marks["picture"], condition.numpy().tobytes(), str(condition.shape))
    target_file = store.path(
        "latent", marks["latent"], base.family.name, str(encoders.size), target.numpy().tobytes(), str(target.shape)
    )
    store.fill(condition_file, lambda: encoders.reference(condition))
    store.fill(target_file, lambda: encoders.target(target, base))
    return condition_file, target_file


def _read(pair: Pair, name: str) -> Tensor:
    try:
        return getattr(pair, name)().contiguous()
    except (OSError, SyntaxError) as error:  # Pillow's, of damaged files
        raise ValueError(f"{pair.name}: a picture was expected as {name}; it cannot be read ({error}).") from error
