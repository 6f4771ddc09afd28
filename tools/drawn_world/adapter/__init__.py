"""The drawn world's adapter. Its resampler is trained to turn images into words, and its attention to obey them."""

import drawn_world.in_process  # noqa: F401 (makes the pack importable)
