"""Watch which parts of an image look at the reference while it is sampled. Nothing is changed by it.

record       what a run shows, noted by `patching`'s run
heat_maps    the mathematics
"""
