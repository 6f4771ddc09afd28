"""The way from a reference to a model.

load, encode, apply    the three core nodes
reference, combine     rows of references, and embeds made into one
"""
