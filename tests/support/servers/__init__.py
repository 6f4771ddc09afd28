"""Things that servers started by tests work with."""
