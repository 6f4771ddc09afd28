"""Sizes and layouts of small towers for open_clip, and how near their states must be to another library's."""

import torch

TOLERANCE = 1e-5
SMALL = {"width": 1280, "layers": 2, "patches": 2}
LAYOUTS = ["transformers", "open_clip"]


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
