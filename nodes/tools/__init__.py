"""Encoders of other formats, adapters of other formats, and training."""
