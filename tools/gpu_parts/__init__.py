"""Measurements of the pack on a graphics card: `python -m gpu_parts PART`, which `gpu.py` starts for each part.

A part's process is its own: ComfyUI reads its arguments once, and what one part breaks does not touch another.
"""

import sys

from comfyhost.places import REPO_ROOT

# The packages of an archive that `gpu.py --bundle` made. The machine's own come first: they fit its python.
SITE = REPO_ROOT / "site"
sys.path.append(str(SITE))
