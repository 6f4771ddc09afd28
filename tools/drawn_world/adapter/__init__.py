"""The drawn world's adapters: one part is trained to read, another to write, and then they are joined."""

import drawn_world.in_process  # noqa: F401 (makes the pack importable)
