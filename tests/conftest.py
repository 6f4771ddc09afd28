"""Makes the pack importable for every test, see `support/importable_pack.py`; which tests a tier has, and until when;
and how many examples property tests run.

In the test suite they are few and the same each time. `make properties` sets PROPERTIES_EXAMPLES: then they are so
many and drawn anew each time, and a failure says how to see it again.
"""

import os
import time
import zlib
from pathlib import Path

import pytest
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

HERE = Path(__file__).parent
ONE_AT_A_TIME = ("browser", "install", "server")  # folders whose tests share a server, a page or an installation
QUICK = ("unit", "golden", "host", "server", "browser")  # folders of which `make test` runs every test once


def pytest_addoption(parser) -> None:
    parser.addoption("--every-combination", action="store_true", help="run tests that are `spread` with all parameters")
    words = "quick: what `make test` runs, each test once, with one of its sets of parameters; rest: all else"
    parser.addoption("--tier", choices=["quick", "rest"], help=words)


def pytest_configure(config) -> None:
    line = "spread(over, by, n=1): each value of `by` meets n values of `over`, the next value the next n"
    config.addinivalue_line("markers", line)
    config.addinivalue_line("markers", "long(reason): left out of the quick tier, in which another test sees the same")
    config.pluginmanager.register(FailuresAtOnce(config))


class FailuresAtOnce:
    """Says what failed at once: a run that is stopped does not come to its summary."""

    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal:
            terminal.write_line(f"\n{report.nodeid}\n{report.longreprtext}")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config, items: list) -> None:
    """Put a folder on one worker; leave out combinations of a test that is `spread`, and tests of another tier."""
    for item in items:
        if folder_of(item) in ONE_AT_A_TIME:
            item.add_marker(pytest.mark.xdist_group(folder_of(item)))
    tests: dict[tuple, list] = {}
    for item in items:
        tests.setdefault((item.path, item.parent.name, item.originalname), []).append(item)
    named = any("[" in asked for asked in config.args)
    everything = config.getoption("--every-combination") or named
    kept = {item for own in tests.values() for item in own if everything or has_its_turn(item, own)}
    if (tier := config.getoption("--tier")) and not named:
        quick = {own[turn_of(own[0]) % len(own)] for own in (quick_ones(own, kept) for own in tests.values()) if own}
        kept = quick if tier == "quick" else kept - quick
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.hookimpl(tryfirst=True)  # before anything is set up
def pytest_runtest_setup(item) -> None:
    """Skip what has not begun when the time for it is up: a slow machine runs less, and says what it left out."""
    end = os.environ.get("REST_TIER_ENDS")  # seconds since 1970
    if end and item.config.getoption("--tier") == "rest" and time.time() > float(end):
        pytest.skip("there was no time left for it (REST_TIER_ENDS)")


def folder_of(item) -> str:
    """The folder of tests/ that a test is in."""
    return item.path.relative_to(HERE).parts[0]


def quick_ones(own: list, kept: set) -> list:
    """The sets of parameters of one test of which the quick tier takes one."""
    return [item for item in own if item in kept and folder_of(item) in QUICK and not item.get_closest_marker("long")]


def turn_of(item) -> int:
    """A number of the test's own, so that not all tests begin with the same parameters."""
    return zlib.crc32(item.originalname.encode())


def has_its_turn(item, own: list) -> bool:
    """Whether a test runs with these parameters. own: the same test with all of them."""
    for mark in item.iter_markers("spread"):
        over, by, n = (*mark.args, 1)[:3]
        number, values = place(item, own, over)
        if (number - n * (place(item, own, by)[0] + turn_of(item))) % values >= n:
            return False
    return True


def place(item, own: list, argument: str) -> tuple[int, int]:
    """The number of the item's value of an argument, and how many values its test has.

    Told apart by identity, since a value may be a function or a tensor; pytest numbers the values of fixtures alone.
    """
    values = list(dict.fromkeys(id(other.callspec.params[argument]) for other in own))
    return values.index(id(item.callspec.params[argument])), len(values)
