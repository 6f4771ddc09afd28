"""The contents of an adapter file.

checkpoint         a file's tensors, recognised and checked, and built into modules
kinds              IPAdapter-Instruct and the adapters that it descends from
resampler, image_projections    what makes image tokens
convert, trained_files          files in half precision, and what they say of themselves
"""
