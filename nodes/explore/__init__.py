"""Comparing settings in a grid, and seeing where a picture looks at its reference."""
