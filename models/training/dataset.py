"""Turn pairs into a dataset, by the encoders of a ComfyUI graph.

Axes: H and W of an image, C latent channels, h and w latent sides, N image patches and class token, L text tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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
        made = {"embeds": embeds, "context": context, "pooled_output": values.get("pooled_output")}
        return {name: tensor[0].half() for name, tensor in made.items() if tensor is not None}

    def fingerprints(self) -> dict[str, str]:
        """Return a fingerprint of each encoder as it is now, with patches that others have put on it."""
        readers = {"image": self.clip_vision, "latents": self.vae, "text": self.clip, "instruction": self.instruct_clip}
        patchers = {name: reader.patcher for name, reader in readers.items() if reader is not None}
        return {
            name: f"{fingerprint(patcher.model.state_dict())} {patcher.patches_uuid if patcher.patches else ''}"
            for name, patcher in patchers.items()
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
        given = [self.pairs[number].instructions for number in drawn]
        phrasings = [texts[int(torch.randint(len(texts), (1,), generator=generator))] for texts in given]
        return self.examples(zip(drawn, phrasings, strict=True))

    def examples(self, wanted: Iterable[tuple[int, str]]) -> Batch:
        """Return pairs by their numbers, each with an instruction."""
        latents, given = [], []
        for number, instruction in wanted:
            reference, target = (load_file(file) for file in self._files[number])
            latents.append(target["latents"])
            image = reference["image_features"][None].float()
            given.append(self._conditioning(image, self.pairs[number].caption, instruction))
        return Batch(torch.stack(latents), stack_conditioning(given))

    def _conditioning(self, image: Tensor, caption: str, instruction: str) -> Conditioning:
        prompt, instruct = (
            {name: tensor[None].float() for name, tensor in load_file(self._files[text]).items()}
            for text in (caption, instruction)
        )
        return Conditioning(image, instruct["embeds"], prompt["embeds"], prompt["context"], prompt.get("pooled_output"))


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
    count, files = len(texts) + len(pairs), {}
    for text in texts:
        mm.throw_exception_if_processing_interrupted()
        files[text] = cache.path("text", marks["text"] + marks.get("instruction", ""), text)
        cache.fill(files[text], partial(encoders.encode_text, text))
        progress(len(files), count, "texts")
    for number, pair in enumerate(pairs):
        mm.throw_exception_if_processing_interrupted()
        reference, target = (_read(pair, name) for name in ("reference", "target"))
        of_reference = cache.path("image", marks["image"], reference.numpy().tobytes(), str(reference.shape))
        sizes = str(encoders.resolution), str(target.shape)
        of_target = cache.path("latents", marks["latents"], base.family.name, target.numpy().tobytes(), *sizes)
        cache.fill(of_reference, partial(encoders.encode_reference, reference))
        cache.fill(of_target, partial(encoders.encode_target, target, base))
        files[number] = of_reference, of_target
        progress(len(files), count, "images")
    return PairDataset(pairs, files, zero_hidden_states(encoders.clip_vision))


def _read(pair: Pair, name: str) -> Tensor:
    try:
        return getattr(pair, name)().contiguous()
    except (OSError, SyntaxError) as error:  # Pillow's, of damaged files
        raise ValueError(f"{pair.name}: an image was expected as {name}; it cannot be read ({error}).") from error
