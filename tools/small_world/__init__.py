"""A small world in which instructions visibly work: pictures we draw, and models trained on them from scratch.

Small enough for two processor cores, and loaded by ComfyUI's ordinary loaders. No part of the published package.

    PYTHONPATH=tools python -m small_world.train_autoencoder    the decoder; minutes
    PYTHONPATH=tools python -m small_world.train_base           the base model; hours, in the background, resumable
    PYTHONPATH=tools python -m small_world.files                the checkpoint and the encoders' files from these
    PYTHONPATH=tools python -m small_world.check_reader         is the reader right about drawn scenes?
    PYTHONPATH=tools python -m small_world.check_encoders       do the drawn encoders' states carry the attributes?
    PYTHONPATH=tools python -m small_world.check_base           does the base follow captions?

What is trained or rebuilt lies in the cache folder's small-world/ until it is stored.
"""
