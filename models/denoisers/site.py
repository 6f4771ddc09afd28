"""The places where image tokens enter a model."""

from __future__ import annotations

from dataclasses import dataclass

SiteKey = tuple
"""("input", 4, 0) for a UNet's cross-attention, ("double_block", 2) for a joint block."""


@dataclass(frozen=True)
class Site:
    """One attention: its key in the host's patches_replace, its widths, and the path of its block in the model."""

    key: SiteKey
    width: int
    context_width: int
    path: str = ""
