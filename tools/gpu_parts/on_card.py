"""A pytest plugin in place of the conftest.py files of tests/golden and tests/host: their models, in a way of `parts`.

`start` says which, before pytest begins. What the tests note of their errors is collected.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from ipadapter_instruct.models.encoding.held_models import managed
from support import small_models
from support.imported_comfyui import inference_mode  # noqa: F401 (a fixture)
from support.precisions import PRECISIONS
from support.sampling import short_runs

from gpu_parts.parts import Way

BOTH_SIDES = 2  # of a law, each of which costs what the precision costs

of_run: dict = {}
outcomes: Counter = Counter()
failures: list[str] = []
errors: Counter = Counter()


def start(way: Way, left: Callable[[], float]) -> None:
    """Choose the way; left: how many seconds remain."""
    of_run.update(way=way, left=left)
    short_runs.least_tolerance = BOTH_SIDES * PRECISIONS[way.precision].computing
    torch.backends.cudnn.allow_tf32 = False  # float32 is to be float32


def pytest_runtest_teardown(item, nextitem) -> None:
    if nextitem and of_run["left"]() <= 0:
        item.session.shouldstop = "the part's time is over"


def pytest_sessionfinish(session) -> None:
    if left_out := session.testscollected - outcomes.total():
        outcomes["not run"] = left_out


def pytest_runtest_logreport(report) -> None:
    if report.when == "call" or not report.passed:
        outcomes[report.outcome] += 1
    if report.failed:
        failures.append(f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}")
    for _, error in report.user_properties if report.when == "call" else ():
        precision = report.nodeid.partition("[")[2].partition("-")[2].rstrip("]")
        errors[precision] = max(error, errors[precision])


@pytest.fixture(scope="module", params=small_models.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def bare(family):
    """The family's small model, in the way's precision and in the host's care."""
    made = PRECISIONS[of_run["way"].precision].model(family)
    model = managed(made.model, made.load_device, made.offload_device)
    assert of_run["way"].dynamic == (hasattr(model, "is_dynamic") and model.is_dynamic())
    return model


@pytest.fixture(scope="module")
def embeds(family):
    return small_models.golden_embeds(family)
