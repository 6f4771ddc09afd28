"""The pack as a package of a fixed name, whatever its folder is called and without running its __init__.

The repository's root must not be on sys.path, where its `nodes` would hide ComfyUI's.
"""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "ipadapter_instruct"

if NAME not in sys.modules:
    package = types.ModuleType(NAME)
    package.__path__ = [str(ROOT)]
    sys.modules[NAME] = package
