"""Makes the pack importable for every test; see `support/pack.py`."""

import pack  # noqa: F401


def pytest_addoption(parser) -> None:
    parser.addoption("--every-page", action="store_true", help="show every workflow and help page on every screen")


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "spread(argument, values, n): each value on n of the screens, in turn")
