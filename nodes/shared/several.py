"""Inputs that nodes for one picture and for stored ones have in common."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.reference.combining import CONCAT, MODES
from .schema import advanced


def several_inputs() -> list[io.Input]:
    """Return inputs for how several pictures act together, and what to leave behind of them. All are optional."""
    return [
        advanced(
            io.Combo.Input(
                "several",
                options=list(MODES),
                default=CONCAT,
                optional=True,
                tooltip=(
                    "How several pictures act: all together, as their average, or the first on the first "
                    "picture of a batch of latents, and so on."
                ),
            )
        ),
        advanced(
            io.String.Input(
                "image_weights",
                default="",
                optional=True,
                tooltip="A number for each picture, such as 1, 0.5, 0.8. Empty: all alike. 0 leaves one out.",
            )
        ),
        io.String.Input(
            "negative_instruction",
            default="",
            optional=True,
            tooltip="What to leave behind of the picture, such as: the composition. Costs nothing a step.",
        ),
    ]
