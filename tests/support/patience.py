"""The time that a test waits for what should end by itself.

It is long, since no test is about speed, and a machine that swaps or writes much can stand still for minutes.
"""

PATIENCE = 900  # seconds
