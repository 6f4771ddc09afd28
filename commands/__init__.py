"""The commands of cli.py, which a line in its COMMANDS adds.

Each is a module or a folder with a docstring, its help; add_arguments(parser), without importing torch; and
run(arguments), which prints, and returns the exit code. What nodes need too is in models/; servers/ runs prompts on
ComfyUI servers.
"""

from pathlib import Path

ROOT = Path(__file__).absolute().parents[1]  # the pack's folder; where a link leads to it, the link
