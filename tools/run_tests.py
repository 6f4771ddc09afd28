"""Run pytest with tools/ on the module path and the repository's root off it.

`python -m pytest` would put the root first, where the pack's nodes/ and models/ hide ComfyUI's own.
"""

import os
import sys

import pytest

if __name__ == "__main__":
    # Several workers, each with torch's threads, wait for one another: idle threads must not spin meanwhile.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(pytest.main(sys.argv[1:]))
