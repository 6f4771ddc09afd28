"""Whether the pack is right on the card: golden vectors, the laws, and float64, in one way of `parts.WAYS`.

They are the tests of tests/golden and tests/host themselves, with models where ComfyUI samples. Where the way has
another attention than PyTorch's, full-size models show what that changes, since small ones have heads that it refuses.
"""

import sys
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from benchmarks.counting import CFG, in_a_run
from benchmarks.models import BASES, NARROW, SIMPLE, Base, applied, drawn_adapter, drawn_model
from comfy.ldm.modules import attention
from comfy.ldm.modules.diffusionmodules import mmdit
from comfyhost.places import REPO_ROOT

from gpu_parts.parts import GOLDEN, PYTORCHS, WAYS
from gpu_parts.run import Run

OTHER_ATTENTION = 0.05  # of the largest value: sage attention rounds to 8 bits
OPTIONS = ("-q", "--tb=short", "--noconftest", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider")
MOST_WORDS = 5  # failures that are told; all are in the log


def measure(run: Run) -> None:
    name = run.part.partition(".")[2]
    way = WAYS[name]
    with run.kept(f"laws, {name}"):
        laws(run, name)
    if way.arguments[0] not in PYTORCHS or name == "fp32" and run.rehearse:
        for base in BASES if run.on_card else NARROW:
            with run.kept(f"{base.title} by {name}'s attention"):
                run.check_time()
                other_attention(run, base)


def laws(run: Run, name: str) -> None:
    sys.path.append(str(REPO_ROOT / "tests"))
    from gpu_parts import on_card

    way = WAYS[name]
    on_card.start(way, run.left)
    only = way.only + " and sd15" * (run.rehearse and name != "fp32")
    tests = [str(REPO_ROOT / path) for path in way.tests]
    ended = pytest.main([*OPTIONS, "--rootdir", str(REPO_ROOT), "-k", only, *tests], plugins=[on_card])
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise RuntimeError(f"pytest ended with {ended!r}")
    figure = ", ".join(f"{count} {outcome}" for outcome, count in on_card.outcomes.items())
    if on_card.errors:
        of_each = (f"{error:.2g} ({precision})" for precision, error in on_card.errors.items())
        figure += f"; from float64 at most {', '.join(of_each)}"
    what = "golden vectors, laws and float64" if GOLDEN in way.tests else "laws"
    run.emit(f"{what}, {name}", figure, **on_card.outcomes, errors=on_card.errors)
    if on_card.failures:
        raise AssertionError("; ".join(on_card.failures[:MOST_WORDS]))
    if ended == pytest.ExitCode.INTERRUPTED:
        run.check_time()


def other_attention(run: Run, base: Base) -> None:
    """Compare a step's prediction with that by PyTorch's attention, of the same model."""
    loaded, by_pytorch = drawn_adapter(base, run.dtype), attention.attention_pytorch
    model = applied(drawn_model(base, run.dtype), base, SIMPLE, loaded=loaded)

    def prediction() -> torch.Tensor:
        torch.manual_seed(0)  # the run draws its texts and its noise
        return in_a_run(model, base, CFG, lambda step, options: step().float().cpu())

    found = prediction()
    with ExitStack() as swapped:
        for module in (attention, mmdit):
            swapped.enter_context(patch.object(module, "optimized_attention", by_pytorch))
        expected = prediction()
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= OTHER_ATTENTION:
        raise AssertionError(f"{error:.3g} of the largest value lie between it and PyTorch's attention")
    name = attention.optimized_attention.__name__
    run.emit(f"a step of {base.title} by {name}, to one by PyTorch's attention", f"{error:.2g} apart", error=error)
