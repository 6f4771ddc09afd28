"""A real ComfyUI for tests, demo and development: install it, give it stand-in models, start it.

Importing this makes the pack importable as `ipadapter_instruct`, whose commands/servers talks to it. Standard library
only: places, packed_folders, install, environments, audit. The rest runs on the python of `install`.
"""

from comfyhost.in_process import register

register()
