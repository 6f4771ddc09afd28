"""Makes the pack importable for every test; see `support/pack.py`."""

import pack  # noqa: F401
