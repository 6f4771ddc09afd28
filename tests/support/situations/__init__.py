"""Whole situations: everything that a user may set at once."""
