"""Turn pairs into a dataset, by the encoders of a ComfyUI graph.

Axes: H and W of an image, C latent channels, h and w latent sides, N image patches and class token, L text tokens.
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

from ..adapter.checkpoint import fingerprint
from ..encoding.image_encoder import image_features, zero_hidden_states
from ..encoding.text_encoder import check_clip_l, conditionings, encode_texts
from ..files.tensor_cache import TensorCache
from ..messages import check_letters
from .batch import Batch, Conditioning, stack_conditioning
from .frozen_base import FrozenBase
from .pairs import Pair, by_task

Progress = Callable[[int, int, str], None]
"""Called with how many of how many are encoded, and what is being encoded."""


@dataclass(frozen=True, eq=False)
class Encoders:
    """The CLIP, VAE and CLIP_VISION of a graph. resolution: the targets' height and width in pixels.

    instruct_clip: what reads texts for the resampler, where clip has no CLIP-L of its own.
    """

    clip: Any
    vae: Any
    clip_vision: Any
    resolution: tuple[int, int]
    instruct_clip: Any = None

    def encode_reference(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features [N, 1280] of an image [H, W, 3], fp16."""
        features = cast(Tensor, image_features(self.clip_vision, image[None]).hidden_states)
        return {"image_features": features[0].half()}

    def encode_target(self, image: Tensor, base: FrozenBase) -> dict[str, Tensor]:
        """Return an image's latents [C, h, w] as the denoiser has them; what is too long of [H, W, 3] is cut off."""
        height, width = self.resolution
        pixels = comfy.utils.common_upscale(image[None].movedim(-1, 1), width, height, "lanczos", "center")
        with torch.random.fork_rng():  # some autoencoders draw their latents
            torch.manual_seed(0)
            latents = self.vae.encode(pixels.movedim(1, -1))
        return {"latents": base.latent_format.process_in(latents)[0].float()}

    def encode_text(self, text: str) -> dict[str, Tensor]:
        """Encode a caption or instruction: the resampler's embeds [L, 768], the denoiser's context and pooled text."""
        [[context, values]] = conditionings(self.clip, [text])[0]
        embeds = encode_texts(self.instruct_clip or self.clip, [text])[text]
        pooled = values.get("pooled_output")
        made = {"embeds": embeds[0].half(), "context": context[0].half()}
        return made if pooled is None else {**made, "pooled_output": pooled[0].half()}

    def fingerprints(self) -> dict[str, str]:
        """Return a fingerprint of each encoder as it is now, with patches that others have put on it."""
        parts = {
            "image": (self.clip_vision.model, self.clip_vision.patcher),
            "latents": (self.vae.first_stage_model, self.vae.patcher),
            "text": (self.clip.cond_stage_model, self.clip.patcher),
        }
        if self.instruct_clip is not None:
            module = getattr(self.instruct_clip, "cond_stage_model", None) or self.instruct_clip.model
            parts["instruction"] = (module, self.instruct_clip.patcher)
        return {
            name: f"{fingerprint(module.state_dict())} {patcher.patches_uuid if patcher.patches else ''}"
            for name, (module, patcher) in parts.items()
        }


class PairDataset:
    """A dataset of pairs, all of which are encoded on disk; see `encode_pairs`.

    unconditional: one row of a zero image and empty texts, for what is dropped. instructions: all that are trained.
    """

    def __init__(self, pairs: Sequence[Pair], files: dict, zero_image: Tensor):
        self.pairs, self._files = list(pairs), files
        self.tasks = by_task(pairs)
        self.instructions = [text for texts in self.tasks.values() for text in texts]
        self.unconditional = self._conditioning(zero_image, "", "")

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        """Return `count` examples, drawn by the generator alone."""
        drawn = torch.randint(len(self.pairs), (count,), generator=generator).tolist()
        return self.examples([(number, self._instruction(number, generator)) for number in drawn])

    def examples(self, wanted: Iterable[tuple[int, str]]) -> Batch:
        """Return pairs by their numbers, each with an instruction."""
        rows = [(self._pair(number), self.pairs[number].caption, text) for number, text in wanted]
        given = [self._conditioning(row["image_features"][None].float(), caption, text) for row, caption, text in rows]
        return Batch(torch.stack([row["latents"] for row, _, _ in rows]), stack_conditioning(given))

    def of_task(self, task: str) -> list[int]:
        """Return the numbers of a task's pairs."""
        return [number for number, pair in enumerate(self.pairs) if pair.task == task]

    def _instruction(self, number: int, generator: torch.Generator) -> str:
        texts = self.pairs[number].instructions
        return texts[int(torch.randint(len(texts), (1,), generator=generator))]

    def _pair(self, number: int) -> dict[str, Tensor]:
        reference, target = self._files[number]
        return {**load_file(reference), **load_file(target)}

    def _conditioning(self, image: Tensor, caption: str, instruction: str) -> Conditioning:
        prompt, instruct = (load_file(self._files[text]) for text in (caption, instruction))
        pooled = prompt.get("pooled_output")
        return Conditioning(
            image,
            instruct["embeds"][None].float(),
            prompt["embeds"][None].float(),
            prompt["context"][None].float(),
            None if pooled is None else pooled[None].float(),
        )


def encode_pairs(
    pairs: Sequence[Pair], encoders: Encoders, base: FrozenBase, cache: TensorCache, progress: Progress
) -> PairDataset:
    """Run the encoders on all that is not in the cache yet.

    Raises ValueError for a CLIP that cannot read instructions, a text with half a character, and a pair whose image
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
        files[text] = cache.path("text", marks["text"] + marks.get("instruction", ""), text)
        cache.fill(files[text], lambda text=text: encoders.encode_text(text))
        progress(done := done + 1, count, "texts")
    for number, pair in enumerate(pairs):
        mm.throw_exception_if_processing_interrupted()
        files[number] = _encode_images(pair, encoders, base, cache, marks)
        progress(done := done + 1, count, "images")
    return PairDataset(pairs, files, zero_hidden_states(encoders.clip_vision))


def _encode_images(
    pair: Pair, encoders: Encoders, base: FrozenBase, cache: TensorCache, marks: dict[str, str]
) -> tuple:
    reference, target = (_read(pair, name) for name in ("reference", "target"))
    reference_file = cache.path("image", marks["image"], reference.numpy().tobytes(), str(reference.shape))
    sizes = (str(encoders.resolution), str(target.shape))
    target_file = cache.path("latents", marks["latents"], base.family.name, target.numpy().tobytes(), *sizes)
    cache.fill(reference_file, lambda: encoders.encode_reference(reference))
    cache.fill(target_file, lambda: encoders.encode_target(target, base))
    return reference_file, target_file


def _read(pair: Pair, name: str) -> Tensor:
    try:
        return getattr(pair, name)().contiguous()
    except (OSError, SyntaxError) as error:  # Pillow's, of damaged files
        raise ValueError(f"{pair.name}: an image was expected as {name}; it cannot be read ({error}).") from error
