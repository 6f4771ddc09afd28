"""The least that an adapter has to multiply at each step and to keep for all, by the formulas of its paper.

Keys and values of the image tokens do not depend on the step, so multiplying them is no part of it. Source of the
formulas: the attention of each family in unity-research/IP-Adapter-Instruct@57efbe4. A multiply-add is two FLOPs.
"""

import torch
from comfyhost.adapters import TOKENS

from benchmarks.models import SD3, SD15, Base

SIZES = {512: 64, 1024: 128}  # pixels -> height and width of the latent
PATCH = 2  # an MMDiT has a position for so many latents each way
SMALLER = {320: 1, 640: 2, 1280: 4}  # a UNet's width -> how much smaller than the latent it is there
SD15_MIDDLE = 8
ATTENTION_PRODUCTS = 2  # queries with keys, weights with values


def token_flops(base: Base, latent: int, tokens: int = TOKENS) -> int:
    """The least that one row needs to attend to so many image tokens."""
    places = zip(queries(base, latent), base.site_widths, strict=True)
    return sum(4 * positions * tokens * width for positions, width in places)


def stream_flops(base: Base, latent: int) -> int:
    """The least that one row of an MMDiT needs however many tokens there are, since its streams change at each step.

    Keys, values and the output's projection of the image stream, that of the text stream, and the attention of both
    to the image stream.
    """
    if base is not SD3:
        return 0
    image, text = image_positions(latent), base.text_tokens
    matrices = sum(2 * width**2 * (3 * image + text) for width in base.site_widths)
    return matrices + sum(4 * (image + text) * image * width for width in base.site_widths)


def keys_values(base: Base, branches: int = 2, tokens: int = TOKENS) -> int:
    """The bytes in half precision; two branches are those of simple guidance."""
    return 2 * branches * tokens * sum(base.site_widths) * torch.float16.itemsize


def queries(base: Base, latent: int) -> list[int]:
    """Return how many positions attend to the image tokens, at each site."""
    if base is SD3:
        return [image_positions(latent) + base.text_tokens] * len(base.site_widths)
    sides = [latent // SMALLER[width] for width in base.site_widths]
    if base is SD15:  # SDXL's middle is as large as its lowest level
        sides[-1] = latent // SD15_MIDDLE
    return [side**2 for side in sides]


def image_positions(latent: int) -> int:
    return (latent // PATCH) ** 2
