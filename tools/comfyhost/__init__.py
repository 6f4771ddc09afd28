"""A real ComfyUI for tests, demo and development: install it, give it stand-in models, start it, talk to it.

Standard library only: places, packed_folders, install, environments, audit. The other modules run on the python that
`install` prints.
"""
