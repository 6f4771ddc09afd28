"""The parts that `gpu.py` runs, and what each is to have of the time."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

LAWS, GOLDEN, FLOAT64 = "tests/host/test_laws.py", "tests/golden", "tests/host/test_float64.py"
PRECISION = "tests/host/test_precision.py"
PYTORCHS = ("--use-pytorch-cross-attention",)  # most cards' default; torch counts its FLOPs


@dataclass(frozen=True)
class Way:
    """A way to run the pack's laws on a card.

    tests, only: what pytest is to run, and which of it. precision: of the small models, by its name in the tests'
    support/precisions.py. arguments: ComfyUI's own. package: the python package that it needs. dynamic: with ComfyUI's
    dynamic VRAM.
    """

    tests: tuple[str, ...] = (LAWS,)
    only: str = "test"
    precision: str = "fp16"
    arguments: tuple[str, ...] = PYTORCHS
    package: str = ""
    dynamic: bool = False

    def why_not(self, rehearse: bool, comfyui: Path) -> str:
        """Return in words why this machine cannot go this way, or nothing."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        if self.dynamic and "ModelPatcherDynamic" not in (comfyui / "comfy/model_patcher.py").read_text("utf-8"):
            return "this ComfyUI has no dynamic VRAM"
        return "it needs a graphics card" if rehearse and (self.dynamic or self.arguments != PYTORCHS) else ""


WAYS = {
    "fp32": Way((GOLDEN, LAWS, FLOAT64, PRECISION), "not compiled", "fp32"),
    "fp16": Way(),
    "bf16": Way(precision="bf16"),
    "fp8": Way(precision="fp8, computed in bf16"),
    "low-vram": Way(arguments=(*PYTORCHS, "--novram")),
    "dynamic-vram": Way(package="comfy_aimdo", dynamic=True),
    "sage": Way(arguments=("--use-sage-attention",), package="sageattention"),
    "flash": Way(arguments=("--use-flash-attention",), package="flash_attn"),
    "compile": Way((PRECISION,), "compiled", "fp32"),
}
# Of the seconds. Ways are run side by side; each of the others has the card to itself.
SHARES = {"right": 4.0, "fast": 3.5, "small": 1.5, "teaching": 2.0}
NAMES = [*(f"right.{way}" for way in WAYS), *(name for name in SHARES if name != "right")]


def chosen(words: str) -> list[str]:
    """Return the parts named in words with commas between them; "right" is all its ways. Raises ValueError."""
    asked = words.split(",")
    if unknown := set(asked) - {*NAMES, *SHARES}:
        raise ValueError(f"--parts was expected to name some of right, {', '.join(NAMES)}; {unknown} are none.")
    return [name for name in NAMES if name in asked or name.partition(".")[0] in asked]
