"""The nodes for encoders of another library, and for training.

open_clip    CLIP's image and text encoders as open_clip computes them
train        trains an adapter
"""
