"""Makes the pack importable for every test, see `support/importable_pack.py`; and how many examples property tests run.

In the test suite they are few and the same each time. `make properties` sets PROPERTIES_EXAMPLES: then they are so
many and drawn anew each time, and a failure says how to see it again.
"""

import os
import zlib

from comfyhost.places import cache_folder
from support import importable_pack  # noqa: F401

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(cache_folder() / "hypothesis"))  # else in the clone

from hypothesis import HealthCheck, settings  # noqa: E402 (reads the above)

settings.register_profile(
    "suite",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "many",
    settings.get_profile("suite"),
    max_examples=int(os.environ.get("PROPERTIES_EXAMPLES") or 1),
    derandomize=False,
    print_blob=True,
)
settings.load_profile("many" if os.environ.get("PROPERTIES_EXAMPLES") else "suite")


def pytest_addoption(parser) -> None:
    parser.addoption("--every-page", action="store_true", help="show every workflow and help page on every screen")
    parser.addoption("--sample", action="store_true", help="run each test once, with one of its sets of parameters")


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "spread(argument, values, n): each value on n of the screens, in turn")


def pytest_collection_modifyitems(config, items: list) -> None:
    """With --sample, keep one set of parameters of each test: another one for each, so that all families come."""
    if not config.getoption("--sample"):
        return
    tests: dict[tuple, list] = {}
    for item in items:
        tests.setdefault((item.path, item.parent.name, item.originalname), []).append(item)
    kept = {own[zlib.crc32(own[0].originalname.encode()) % len(own)] for own in tests.values()}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]
