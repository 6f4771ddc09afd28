"""Every test here runs on one thread; those of downloads have a server and a folder to download into."""

from support.devices.one_thread import one_thread  # noqa: F401
from support.servers.downloads import models, served  # noqa: F401
