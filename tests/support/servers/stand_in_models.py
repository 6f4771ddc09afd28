"""Stand-in models for the tests' servers. They lie in the cache folder; a user's own models are left alone."""

from __future__ import annotations

from comfyhost.places import cached_host
from comfyhost.standins import STAND_INS, write_stand_ins

MODELS = cached_host().models
KINDS = sorted({stand_in.path.split("/")[0] for own in STAND_INS.values() for stand_in in own})


def put_in_place(family: str = "sd15") -> None:
    """Have a family's stand-ins there; a server finds them by `PATHS`."""
    write_stand_ins(MODELS, STAND_INS[family])


# An entry of extra_model_paths.yaml.
PATHS = {"base_path": str(MODELS), **{kind: kind for kind in KINDS}}
