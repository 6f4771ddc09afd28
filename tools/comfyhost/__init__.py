"""A real ComfyUI for tests, demo and development: install it, give it stand-in models, start it, talk to it.

Standard library only: places, packed_folders, install, environments, audit. The rest runs on the python of `install`.
"""
