"""The drawn world's autoencoder: TAESD with 16 channels, whose encoder is linear and whose decoder is trained.

A patch of 8 x 8 pixels becomes 16 numbers, as SD3's latents are 8 times smaller than images and 16 deep: the scenes'
principal components. That is linear, so nothing has to be trained before the base model can be, and TAESD's encoder can
hold it exactly.

B images, V = 192 values a patch, in the order y, x, RGB.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from drawn_world.in_process import DEVICE, comfy
from drawn_world.scenes.drawing import draw, ground
from drawn_world.scenes.scene import SIDE, Scene, random_scene
from drawn_world.storage import save_tensors, world_folder
from drawn_world.training import Training, TrainingArguments

PREFIX, LINEAR = "first_stage_model.", "components."  # in the checkpoint; of the components beside a stored decoder
CHANNELS, PATCH = 16, 8
VALUES = 3 * PATCH**2
SCENES = 3000
GROUND_COUNTS = 0.1  # how often a patch without a drawing counts

STEPS = 6000
ARGUMENTS = {"learning_rate": 1e-3, "lr_warmup_steps": 30, "weight_decay": 0.0, "ema_decay": 0.0}
BATCH, CROP = 16, 32
NOISE = 0.08  # on latents, since a denoiser's are never exact
EDGES = 0.5  # how much the error of differences between neighbours counts


@dataclass(frozen=True)
class Components:
    """latents = (patches - mean) @ axes.T, with a mean [V] and axes [16, V]."""

    mean: Tensor
    axes: Tensor

    def encode(self, images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """Latents [B, 16, h / 8, w / 8] of images [h, w, 3] in 0..1, as the denoiser has them."""
        patches = torch.from_numpy(patches_of(np.asarray(images, np.float32)))
        return ((patches - self.mean) @ self.axes.T).movedim(-1, 1).contiguous()

    def decode(self, latents: Tensor) -> np.ndarray:
        """The nearest linear images [B, H, W, 3] of latents."""
        patches = latents.movedim(1, -1) @ torch.linalg.pinv(self.axes).T + self.mean
        count, height, width, _ = patches.shape
        pixels = patches.reshape(count, height, width, PATCH, PATCH, 3).transpose(2, 3)
        return pixels.reshape(count, height * PATCH, width * PATCH, 3).clamp(0, 1).numpy()


def patches_of(images: np.ndarray) -> np.ndarray:
    """The patches [B, h / 8, w / 8, V] of images [B, h, w, 3]."""
    count, height, width = images.shape[0], *(side // PATCH for side in images.shape[1:3])
    patches = images.reshape(count, height, PATCH, width, PATCH, 3).swapaxes(2, 3)
    return np.ascontiguousarray(patches).reshape(count, height, width, VALUES)


def components() -> Components:
    """The world's components, found once and kept."""
    path = world_folder() / "components.safetensors"
    if not path.is_file():
        save_tensors(asdict(find_components()), path, "principal components of the scenes' patches")
    return Components(**load_file(path))


def find_components(scenes: int = SCENES) -> Components:
    """Components of drawn scenes' patches.

    Each is divided by the root of its spread, a middle way between all alike, where the finest detail would cost a
    denoiser as much as the rest, and as found. One factor for all makes the variance of latents one. Then they are
    turned so that every channel has a share of each: a strong one, alone in a channel, would go beyond TAESD's 3.
    """
    drawn = random.Random("components")
    patches, counts = some_patches([random_scene(drawn) for _ in range(scenes)])
    mean = (counts @ patches) / counts.sum()
    spreads, axes = torch.linalg.eigh((counts * (patches - mean).T) @ (patches - mean) / counts.sum())
    axes, spreads = axes.T.flip(0)[:CHANNELS], spreads.flip(0)[:CHANNELS].sqrt()
    axes = evenly_turned(axes * spreads.rsqrt()[:, None])
    centre = patches.mean(0)  # so that latents are around zero, whatever counts more
    spread = ((patches - centre) @ axes.T).var(0).mean().sqrt()
    return Components(centre.float(), (axes / spread).float())


def some_patches(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """The patches [N, V] of scenes, and how often each counts [N]."""
    images = np.stack([draw(scene) for scene in scenes])
    bare = np.stack([ground(scene.ground) for scene in scenes])
    patches = torch.from_numpy(patches_of(images)).flatten(0, 2).double()
    empty = torch.from_numpy(np.abs(patches_of(images - bare)).max(-1) < 1 / 255).flatten()
    return patches, torch.where(empty, GROUND_COUNTS, 1.0).double()


def evenly_turned(axes: Tensor) -> Tensor:
    """Axes [16, V], each of the new ones a quarter of every old one, with Hadamard's signs."""
    signs = torch.ones(1, 1, dtype=axes.dtype)
    while len(signs) < len(axes):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return signs @ axes / len(axes) ** 0.5


def encoder_weights(linear: Components, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for TAESD's encoder that compute just these components; `weights` has the shapes, by name.

    All blocks are identities. Each of the first two halvings puts four pixels' values side by side: 12 and 48 of 64
    channels. The third takes the components, each once with either sign, since a ReLU follows.
    """
    made = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    made["0.weight"][range(3), range(3), 1, 1] = 1.0
    for name, channels in (("2.weight", 3), ("6.weight", 12)):
        for quarter in range(4):
            rows = torch.arange(channels) + quarter * channels
            made[name][rows, range(channels), 1 + quarter // 2, 1 + quarter % 2] = 1.0
    axes = in_quarters(linear.axes)
    for sign, first in ((1, 0), (-1, 1)):
        for quarter in range(4):
            rows = slice(first, 2 * CHANNELS, 2)
            made["10.weight"][rows, :48, 1 + quarter // 2, 1 + quarter % 2] = sign * axes[:, quarter]
        made["14.weight"][range(CHANNELS), range(first, 2 * CHANNELS, 2), 1, 1] = sign
    made["14.bias"] = -(linear.axes @ linear.mean)
    return made


def in_quarters(axes: Tensor) -> Tensor:
    """Axes [16, V] as [16, 4, 48]: by quarters of a patch, each in the order in which two halvings lay it out."""
    values = axes.reshape(CHANNELS, 2, 2, 2, 2, 2, 2, 3)  # y in bits of 4, 2, 1; x likewise; RGB
    return values.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(CHANNELS, 4, 48)


def new_taesd(linear: Components, seed: int = 0) -> nn.Module:
    """A TAESD whose encoder is done and whose decoder has its first weights.

    Every residual block begins as the identity, so that the first steps train a shallow net. `vae_scale` and
    `vae_shift` undo SD3's latent format: the denoiser sees the encoder's own numbers, of mean 0 and variance 1.
    """
    taesd, generator = comfy.taesd.taesd.TAESD(latent_channels=CHANNELS), torch.Generator().manual_seed(seed)
    sd3, decoder = comfy.latent_formats.SD3(), taesd.taesd_decoder
    with torch.no_grad():
        for module in decoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        for module in decoder.modules():
            if isinstance(module, comfy.taesd.taesd.Block):
                module.conv[-1].weight.zero_()
        decoder[-1].bias.fill_(0.5)
        taesd.vae_scale.fill_(sd3.scale_factor)
        taesd.vae_shift.fill_(sd3.shift_factor)
    taesd.taesd_encoder.load_state_dict(encoder_weights(linear, taesd.taesd_encoder.state_dict()))
    return taesd.to(memory_format=torch.channels_last)


def beside_components(decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trained decoder as it is stored: with the components that it was trained for."""
    return {f"{LINEAR}{name}": tensor for name, tensor in asdict(components()).items()} | dict(decoder)


def whole(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stored decoder and its components as TAESD's weights."""
    linear = {name.removeprefix(LINEAR): tensor for name, tensor in parts.items() if name.startswith(LINEAR)}
    taesd = new_taesd(Components(**linear))
    decoder = {name: tensor for name, tensor in parts.items() if not name.startswith(LINEAR)}
    taesd.taesd_decoder.load_state_dict(decoder)
    return taesd.state_dict()


def train_decoder(steps: int) -> None:
    linear = components()
    decoder = new_taesd(linear).taesd_decoder

    def loss_of(step: int) -> Tensor:
        images = crops(random.Random(step), BATCH)
        latents = linear.encode(images)
        latents = latents + NOISE * torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        wanted = as_batch(torch.from_numpy(images).movedim(-1, 1).to(DEVICE))
        with torch.autocast(DEVICE, torch.bfloat16):
            made = decoder(as_batch(latents.to(DEVICE)))
        return difference(made.float(), wanted)

    tried = crops(random.Random("tried"), 128)
    training = Training("decoder", decoder, TrainingArguments(steps, **ARGUMENTS), (0.9, 0.99))
    training.run(loss_of, lambda: likeness(decoder, linear, tried), 250)


def as_batch(latents_or_images: Tensor) -> Tensor:
    """A batch in the memory format in which convolutions are fastest on a processor."""
    return latents_or_images.contiguous(memory_format=torch.channels_last)


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """A loss in which small errors count and large ones more, and so do those of edges."""
    error = made - wanted
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return error.abs().mean() + 4 * error.square().mean() + EDGES * (across + down)


def crops(drawn: random.Random, count: int) -> np.ndarray:
    """Parts of fresh scenes with something of a drawing in them [count, 32, 32, 3], at whole patches."""
    found = []
    while len(found) < count:
        scene = random_scene(drawn)
        image, bare = draw(scene), ground(scene.ground)
        for _ in range(2):
            left, top = (drawn.randrange(0, SIDE - CROP + 1, PATCH) for _ in range(2))
            part = np.s_[top : top + CROP, left : left + CROP]
            if np.abs(image[part] - bare[part]).max(-1).mean() > 0.03:
                found.append(image[part])
    return np.stack(found[:count])


@torch.no_grad()
def likeness(decoder: nn.Module, linear: Components, images: np.ndarray) -> tuple[float, float]:
    """The likeness of decoded images to the real ones, in dB: by the decoder, and linearly."""
    latents = linear.encode(images)
    decoded = decoder(as_batch(latents.to(DEVICE))).clamp(0, 1).movedim(1, -1).cpu().numpy()
    return decibels(decoded, images), decibels(linear.decode(latents), images)


def decibels(made: np.ndarray, wanted: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(made - wanted).mean()))
