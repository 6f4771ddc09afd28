"""The way from a reference to a model: load, encode, apply, and several references at once."""
