"""A small world in which instructions visibly work: pictures we draw, and models trained on them from scratch.

Small enough for two processor cores, and loaded by ComfyUI's ordinary loaders. No part of the published package.
"""
