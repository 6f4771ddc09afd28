"""Every test here runs on one thread."""

from support.devices.one_thread import one_thread  # noqa: F401
