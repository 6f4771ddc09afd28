"""The world's image encoder, in ViT-H's shape: a small convolutional net that lies inside its attention.

163 of 1280 channels do something. 128 hold what is seen; the others are the same for all images: a one-hot of each
patch's row and column, a constant, and marks. In the first layers nine heads look at nine neighbours each, told by
these one-hots alone, so that attention is a 3 x 3 convolution; beyond the border they look at the class token. The last
layer is ordinary attention, by which the class token gathers what the patches hold.

The penultimate hidden states, which adapters take, are the convolutions' output. Training computes every second patch
of every second row only, from the second layer on: the others hold the same for shifted images.

B images, N patches and the class token before them, G = 16 patches along a side, C = 163 channels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.models.narrow import EPSILON, Sizes, WideNorm, encoder_of
from drawn_world.storage import stored

GRID, PIXELS, WIDE_PIXELS = 16, 6, 14  # patches along a side; a patch's pixels in a scene, and in ViT-H's image
WINDOW = PIXELS + 4  # of the scene, that a patch of the enlarged image depends on
SEEN = 128
ROWS, COLUMNS = SEEN, SEEN + GRID
CONSTANT, CLASS, ANCHOR = (SEEN + 2 * GRID + number for number in range(3))
CHANNELS = ANCHOR + 1
ZERO = CHANNELS  # of the wide states: what norms make of the zeros in rows and columns
HEIGHT, BALLAST = 8.0, 64.0  # of the one-hots and marks; of the constant, next to which all else is small in a norm
LOUDER = 4.0  # than what is seen, so that norms are nearly the same for all images
HEAD, LAYERS, WIDTH = 80, 32, 1280
HIDDEN, FINE = 256, 768  # of the first layer, which sees the finest
DILATIONS = (1, 2, 2, 4)  # in patches, of the layers that are convolutions
SIZES = Sizes(channels=CHANNELS, heads=8, hidden=512, width=WIDTH, head=HEAD)
EMBEDDED = 128  # of 1024 numbers of an image's embedding
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def positions() -> Tensor:
    """The part of all 257 hidden states that is the same for all images [257, C]."""
    fixed = torch.zeros(1 + GRID**2, CHANNELS)
    rows, columns = torch.arange(GRID).repeat_interleave(GRID), torch.arange(GRID).repeat(GRID)
    patches = torch.arange(GRID**2) + 1
    fixed[patches, ROWS + rows] = fixed[patches, COLUMNS + columns] = HEIGHT
    fixed[:, CONSTANT] = BALLAST
    fixed[0, CLASS] = HEIGHT
    fixed[patches, ANCHOR] = HEIGHT * ((rows % 2 == 0) & (columns % 2 == 0))
    return fixed


class Normed(torch.autograd.Function):
    """A wide norm of the channels that hold what is seen, given the sums of all others: a third faster than torch's.

    [B, N, SEEN] -> [B, N, SEEN]
    """

    @staticmethod
    def forward(ctx, x: Tensor, sums: Tensor, squares: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean = (x.sum(-1, keepdim=True) + sums) / WIDTH
        scale = ((x.square().sum(-1, keepdim=True) + squares) / WIDTH - mean.square() + EPSILON).rsqrt()
        made = (x - mean).mul_(scale)
        ctx.save_for_backward(made, scale, weight)
        return torch.addcmul(bias, made, weight)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        made, scale, weight = ctx.saved_tensors
        (given,) = gradients
        product = given * made
        along, mean = ((part @ weight / WIDTH)[..., None] for part in (product, given))
        of_x = (given * weight).sub_(mean).addcmul_(made, along, value=-1).mul_(scale)
        return of_x, None, None, product.sum((0, 1)), given.sum((0, 1))


class States(NamedTuple):
    """Hidden states: of what is seen [B, N, SEEN], of the other channels [B, N, C - SEEN], and the sums of these."""

    seen: Tensor
    rest: Tensor
    sums: Tensor
    squares: Tensor

    @classmethod
    def of(cls, seen: Tensor, rest: Tensor) -> States:
        return cls(seen, rest, rest.sum(-1, keepdim=True), rest.square().sum(-1, keepdim=True))

    def normed(self, norm: WideNorm) -> Tensor:
        return Normed.apply(self.seen, self.sums, self.squares, norm.weight[:SEEN], norm.bias[:SEEN])

    def plus(self, more: Tensor) -> States:
        return self._replace(seen=self.seen + more)

    def at(self, chosen: Callable[[Tensor], Tensor]) -> States:
        """The hidden states of some tokens."""
        return States(*(chosen(part) for part in self))


class Convolution(nn.Module):
    """One layer: a convolution over the patches, unless the dilation is 0, and a feed-forward part."""

    def __init__(self, dilation: int, hidden: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.layer_norm1, self.layer_norm2 = WideNorm(SIZES), WideNorm(SIZES)
        self.narrow = nn.Linear(SEEN, HEAD)
        self.convolution = nn.Conv2d(HEAD, SEEN, 3, bias=True)
        self.fc1, self.fc2 = nn.Linear(SEEN, hidden), nn.Linear(hidden, SEEN)
        nn.init.normal_(self.convolution.weight, std=0.5 / math.sqrt(9 * HEAD))
        nn.init.normal_(self.fc2.weight, std=0.5 / math.sqrt(hidden))

    def forward(self, x: States, whole: bool) -> States:
        """The layer's output for all patches, or for the anchors alone from the first convolution on."""
        if self.dilation:
            reach = self.dilation if whole else max(1, self.dilation // 2)
            x = self.convolved(x, reach, stride=2 if self.dilation == 1 and not whole else 1)
        return x.plus(self.fc2(F.gelu(self.fc1(x.normed(self.layer_norm2)))))

    def convolved(self, x: States, reach: int, stride: int) -> States:
        values = self.narrow(x.normed(self.layer_norm1))
        side = math.isqrt(values.shape[1] - 1)
        own, grid = values[:, :1], values[:, 1:].movedim(-1, 1).unflatten(-1, (side, side))
        outside = F.pad(torch.ones_like(grid[:1, :1]), [reach] * 4)
        grid = F.pad(grid, [reach] * 4) + (1 - outside) * own.movedim(-1, 1)[..., None]
        made = F.conv2d(grid, self.convolution.weight, self.convolution.bias, stride, dilation=reach)
        if stride > 1:
            x = x.at(anchors_of)
        of_own = own @ self.convolution.weight.sum((2, 3)).T.to(own.dtype) + self.convolution.bias.to(own.dtype)
        return x.plus(torch.cat([of_own, made.flatten(2).movedim(1, -1)], 1))


def anchors_of(tokens: Tensor) -> Tensor:
    """The class token, and every second patch of every second row."""
    patches = tokens[:, 1:].unflatten(1, (GRID, GRID))[:, ::2, ::2]
    return torch.cat([tokens[:, :1], patches.flatten(1, 2)], 1)


class Gathering(nn.Module):
    """The last layer, for the class token alone: it looks at the anchors, with one query a head."""

    def __init__(self) -> None:
        super().__init__()
        inner = SIZES.heads * SIZES.head
        self.layer_norm1, self.layer_norm2 = WideNorm(SIZES), WideNorm(SIZES)
        self.query = nn.Parameter(torch.randn(SIZES.heads, SIZES.head - 1))  # the last channel is for the anchors' mark
        self.k_proj, self.v_proj = nn.Linear(SEEN, inner), nn.Linear(CONSTANT, inner)  # values tell places, too
        self.out_proj = nn.Linear(inner, SEEN)
        self.fc1, self.fc2 = nn.Linear(SEEN, SIZES.hidden), nn.Linear(SIZES.hidden, SEEN)

    def forward(self, x: States) -> States:
        """The class token's hidden states."""
        patches, own = x.at(lambda part: part[:, 1:]), x.at(lambda part: part[:, :1])
        read = self.layer_norm1(torch.cat([patches.seen, patches.rest], -1))
        k = self.k_proj(read[..., :SEEN]).unflatten(-1, (SIZES.heads, -1))
        v = self.v_proj(read[..., :CONSTANT]).unflatten(-1, (SIZES.heads, -1))
        looks = (torch.einsum("hd,bnhd->bhn", self.query.to(k.dtype), k[..., :-1]) * SIZES.head**-0.5).softmax(-1)
        gathered = torch.einsum("bhn,bnhd->bhd", looks.to(v.dtype), v).flatten(1)
        own = own.plus(self.out_proj(gathered)[:, None])
        return own.plus(self.fc2(F.gelu(self.fc1(own.normed(self.layer_norm2)))))


class ImageEncoder(nn.Module):
    """The narrow image encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, SEEN, WIDE_PIXELS, WIDE_PIXELS)  # of the enlarged image
        self.register_buffer("enlarging", enlarging(), persistent=False)
        self.pre_layrnorm, self.post_layernorm = WideNorm(SIZES), WideNorm(SIZES)
        self.steps = nn.ModuleList([Convolution(0, FINE), *(Convolution(dilation, HIDDEN) for dilation in DILATIONS)])
        self.gathering = Gathering()
        self.visual_projection = nn.Linear(SEEN, EMBEDDED, bias=False)
        self.register_buffer("fixed", positions(), persistent=False)
        self.pre_layrnorm.weight.data[:SEEN] *= 2.0  # what is seen has a variance of about one
        self.pre_layrnorm.weight.data[SEEN:] *= LOUDER
        for norm in self.modules():
            if isinstance(norm, WideNorm) and norm is not self.pre_layrnorm:
                norm.weight.data[:SEEN] *= LOUDER
        for norm in (self.pre_layrnorm, *(step.layer_norm1 for step in self.steps), self.gathering.layer_norm1):
            for parameter in norm.parameters():
                parameter.register_hook(only_what_is_seen)

    @classmethod
    def from_stored(cls) -> ImageEncoder:
        """The encoder that is stored in the repository."""
        encoder = cls()
        encoder.load_state_dict(encoder_of(stored("image_encoder")))
        return encoder.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [B, 128] of images [B, 3, 96, 96] in 0..1."""
        return self.embedded(self.layers(images, whole=False)[-1])

    def embedded(self, x: States) -> Tensor:
        return self.visual_projection(self.gathering(x).normed(self.post_layernorm)[:, 0])

    def hidden_states(self, images: Tensor) -> Tensor:
        """The penultimate hidden states of the class token and all patches [B, 257, C]."""
        x = self.layers(images, whole=True)[-1]
        return torch.cat([x.seen, x.rest], -1)

    def layers(self, images: Tensor, whole: bool) -> list[States]:
        """The hidden states after each layer but the last: of all patches, or of anchors alone where that will do."""
        mean, spread = (torch.tensor(three, device=images.device)[:, None, None] for three in (MEAN, SPREAD))
        pixels = F.pad((images - mean) / spread, [(WINDOW - PIXELS) // 2] * 4, mode="replicate")
        window = (self.patches.weight.flatten(2) @ self.enlarging).unflatten(-1, (WINDOW, WINDOW))
        seen = F.conv2d(pixels, window, self.patches.bias, PIXELS).flatten(2).movedim(1, -1).float()
        seen, rest = F.pad(seen, (0, 0, 1, 0)) + self.fixed[:, :SEEN], self.fixed[:, SEEN:].expand(len(seen), -1, -1)
        normed = States.of(seen, rest).normed(self.pre_layrnorm)
        with torch.no_grad():  # what is the same for all images changes so little with what is seen
            rest = self.pre_layrnorm(torch.cat([seen, rest], -1))[..., SEEN:]
        states = [States.of(normed, rest)]
        for step in self.steps:
            states.append(step(states[-1], whole))
        return states


def only_what_is_seen(gradient: Tensor) -> Tensor:
    """Leave a norm as it is for the channels by which patches are found."""
    return gradient * (torch.arange(CHANNELS, device=gradient.device) < SEEN)


@functools.cache
def enlarging() -> Tensor:
    """The linear map from a scene's window to a patch of the enlarged image, [14 * 14, 10 * 10]."""
    side, at = 96, 8  # any patch that is not at the border
    start = PIXELS * at - (WINDOW - PIXELS) // 2
    unit = torch.zeros(WINDOW**2, 1, side, side)
    unit[:, 0, start : start + WINDOW, start : start + WINDOW] = torch.eye(WINDOW**2).unflatten(1, (WINDOW, WINDOW))
    large = F.interpolate(unit, GRID * WIDE_PIXELS, mode="bicubic", antialias=True)
    patch = slice(at * WIDE_PIXELS, (at + 1) * WIDE_PIXELS)
    return large[:, 0, patch, patch].flatten(1).T
