"""Reference images made ready to be encoded: cut out on a colour, cropped around a mask, cut into tiles.

Images hold values from 0 to 1 and come out in RGB, without an alpha channel. Masks are 1 where an image counts.
Axes: B images, F masks, N tiles, H height, W width, C channels, S side of a square.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

BLANK = (0.48145466, 0.4578275, 0.40821073)  # CLIP's mean colour: zero to the encoder
SHARPEST = 0.1  # pixels; of less, a pixel's neighbours have a share that float32 rounds to 0


def mask_for_each(mask: Tensor, image: Tensor) -> Tensor:
    """Return a mask for each image, at its size: mask [1 or B, h, w] -> [B, H, W]. Raises ValueError for others."""
    images, *size = image.shape[:3]
    if len(mask) not in (1, images):
        raise ValueError(
            f"mask was expected to be one mask for all, or one for each of the {images} picture(s); it is "
            f"{len(mask)} masks. Connect a single mask, or a batch as long as the image's."
        )
    masks = _resized(mask.to(image.device, torch.float32).unsqueeze(-1), size, "bilinear")[..., 0]
    return masks.expand(images, -1, -1).contiguous()


def cut_out(image: Tensor, mask: Tensor, colours: Tensor) -> Tensor:
    """Return image [B, H, W, C] where mask [B, H, W] is 1, colours [B or 1, 3] where it is 0, as [B, H, W, 3]."""
    return torch.lerp(colours.to(image.device)[:, None, None], _rgb(image), mask.unsqueeze(-1))


def random_colours(image: Tensor, mask: Tensor, seed: int) -> Tensor:
    """Return a colour for each image, [B, 3], drawn by `seed` and far from the mean colour of what the mask keeps.

    Two colours half the range of every channel apart are sqrt(3) / 2 from each other, so that the farther one is
    at least sqrt(3) / 4 = 0.43 from any third. Every channel is a whole number of 255ths, as colours are typed.
    """
    drawn = torch.randint(256, (len(image), 3), generator=torch.Generator().manual_seed(seed)).to(image.device)
    pair = torch.stack([drawn, (drawn + 128) % 256], dim=1) / 255  # [B, 2, 3]
    kept = mask.unsqueeze(-1)
    mean = (_rgb(image) * kept).sum((1, 2)) / kept.sum((1, 2)).clamp(min=1e-6)
    farther = (pair - mean.unsqueeze(1)).norm(dim=-1).argmax(dim=1)
    return pair[torch.arange(len(pair)), farther]


def feathered(mask: Tensor, width: float) -> Tensor:
    """Return mask [B, H, W] with its edges softened: two thirds of the way from 0 to 1 lie within `width` pixels."""
    if width < SHARPEST:
        return mask
    reach = math.ceil(2 * width)
    weights = torch.exp(-2 * (torch.arange(-reach, reach + 1, device=mask.device) / width) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(mask.unsqueeze(1), [reach] * 4, mode="replicate")  # a mask that meets the border goes on beyond
    soft = F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return soft.squeeze(1).clamp(0, 1)


def crop_around(image: Tensor, mask: Tensor, padding: float) -> tuple[Tensor, Tensor]:
    """Return squares [B, S, S, 3] of image [B, H, W, C] around what mask [B, H, W] marks, and their masks [B, S, S].

    padding: what is taken beside the mark on every side, as a fraction of its longer side, and less than that
    where the image ends. A square that is still larger than the image goes on with the image's edges, where
    its mask is 0. S is the largest of the batch; smaller squares are enlarged.
    Raises ValueError for an empty mask.
    """
    squares = [_square_around(frame, number, padding) for number, frame in enumerate(mask, start=1)]
    side = max(square.side for square in squares)
    crops, masks = [], []
    for pixels, kept, square in zip(_rgb(image).split(1), mask.unsqueeze(-1).split(1), squares, strict=True):
        crops.append(_resized(_cut(pixels, square)[0], (side, side), "bicubic"))
        marked, inside = _cut(kept, square)
        masks.append(_resized(marked * inside, (side, side), "bilinear")[..., 0])
    return torch.cat(crops), torch.cat(masks)


@dataclass(frozen=True)
class Square:
    """A square of pixels, which may reach beyond the image."""

    top: int
    left: int
    side: int


def _square_around(mask: Tensor, number: int, padding: float) -> Square:
    """Return the square around what mask `number`, [H, W], marks at half of its highest value, or raise ValueError."""
    marked = mask > mask.max() / 2
    if not marked.any():
        raise ValueError(
            f"mask was expected to mark a part of picture {number}; it is empty (0 everywhere). Paint the part on the "
            "picture in the mask editor, connect another mask, or take this picture out of the batch."
        )
    rows, columns = (marked.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    longest = max(rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])
    height, width = mask.shape
    side = max(longest, min(round(longest * (1 + 2 * padding)), height, width))
    top, left = _start(rows[0], rows[-1] + 1, side, height), _start(columns[0], columns[-1] + 1, side, width)
    return Square(top, left, side)


def _start(first: int, last: int, side: int, length: int) -> int:
    """Return where a side around first..last begins: inside 0..length, or else with all of 0..length inside of it."""
    spare = length - side
    return min(max((first + last - side) // 2, min(0, spare)), max(0, spare))


@dataclass(frozen=True)
class Grid:
    """Square tiles of one size, evenly spread over an image."""

    rows: int
    columns: int
    side: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    def squares(self, height: int, width: int) -> list[Square]:
        """Return the tiles' squares, row by row."""
        starts = itertools.product(_spread(height, self.side, self.rows), _spread(width, self.side, self.columns))
        return [Square(top, left, self.side) for top, left in starts]


def tile_grid(height: int, width: int, max_tiles: int, overlap: float) -> Grid:
    """Return the grid of at most `max_tiles` whose tiles are smallest, so that each keeps most of the image's detail.

    overlap: the least part of a tile, 0 to 0.5, that its neighbour shares; it gives way where tiles would otherwise
    reach beyond the image.
    """

    def side(rows: int, columns: int, overlap: float) -> int:
        return max(math.ceil(n / (1 + (k - 1) * (1 - overlap))) for n, k in ((height, rows), (width, columns)))

    counts = itertools.product(range(1, min(max_tiles, height) + 1), range(1, min(max_tiles, width) + 1))
    grids = [Grid(*count, side(*count, overlap)) for count in counts if math.prod(count) <= max_tiles]
    best = min(grids, key=lambda grid: (grid.side, grid.tiles))
    return replace(best, side=max(side(best.rows, best.columns, 0.0), min(best.side, height, width)))


def tiles(image: Tensor, grid: Grid, whole: bool) -> Tensor:
    """Cut image [B, H, W, C] into every image's tiles [N, S, S, 3], row by row, together covering every pixel.

    whole: each image's tiles begin with all of it, shrunk to a tile's size, unless there is but one tile.
    What a square holds beyond the image is blank.
    """
    image, size, side = _rgb(image), image.shape[1:3], grid.side
    cut = [_cut(image, square) for square in grid.squares(*size)]
    if whole and grid.tiles > 1:
        height, width = (max(1, round(length * (side / max(size)))) for length in size)
        shrunk = _resized(image, (height, width), "bicubic")
        cut.insert(0, _cut(shrunk, Square((height - side) // 2, (width - side) // 2, side)))
    blank = torch.tensor(BLANK).to(image)
    return torch.stack([torch.where(inside, pixels, blank) for pixels, inside in cut], dim=1).flatten(0, 1)


def _spread(length: int, side: int, count: int) -> list[int]:
    """Return where `count` tiles begin that go from one end of `length` to the other; one alone lies in the middle."""
    if count == 1:
        return [(length - side) // 2]
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def _rgb(image: Tensor) -> Tensor:
    return image[..., :3].float()


def _cut(image: Tensor, square: Square) -> tuple[Tensor, Tensor]:
    """Cut a square out of image [B, H, W, C], whose edges go on: its pixels [B, S, S, C], what is inside [S, S, 1]."""
    height, width = image.shape[1:3]
    places = torch.arange(square.side, device=image.device)
    rows, columns = square.top + places, square.left + places
    on_rows, on_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    inside = (rows == on_rows)[:, None] & (columns == on_columns)
    return image[:, on_rows][:, :, on_columns], inside.unsqueeze(-1)


def _resized(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Return image [B, H, W, C] at another size, in 0..1; unchanged, bit for bit, at its own."""
    if image.shape[1:3] == tuple(size):
        return image
    resized = F.interpolate(image.movedim(-1, 1), size=tuple(size), mode=mode, antialias=True).clamp(0, 1)
    return resized.movedim(1, -1)
