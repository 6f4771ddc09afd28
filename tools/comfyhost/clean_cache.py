"""Remove the cache folder, after asking."""

from __future__ import annotations

import shutil
import sys

from comfyhost.install import only_one, say
from comfyhost.places import cache_folder


def main() -> int:
    """Ask, and remove the folder on a yes."""
    cache = cache_folder()
    if not (cache / "install.lock").is_file():
        say(f"Nothing to remove: {cache} was not made by `make setup`.")
        return 0
    try:
        answer = input(f"Remove {cache} with ComfyUI, its python and the stand-in models? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        say("Nothing removed.")
        return 1
    with only_one(cache / "install.lock"):
        shutil.rmtree(cache)
    say("Removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
