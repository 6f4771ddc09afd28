"""Which parts of a picture look at the reference while it is sampled: an observer that changes nothing.

record       what a run shows, noted by `patching`'s run
heat_maps    the mathematics
"""
