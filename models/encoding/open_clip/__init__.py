"""CLIP's towers by open_clip.

files      which tower a file holds, and its tensors under open_clip's names
towers     the towers as a CLIP_VISION, and as the text encoder of instructions
pretrained weights that open_clip knows by a tag
"""
