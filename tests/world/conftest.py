"""ComfyUI is importable here, and every test runs on one thread."""

import drawn_world.in_process  # noqa: F401
from support import imported_comfyui  # noqa: F401
from support.devices.one_thread import one_thread  # noqa: F401
