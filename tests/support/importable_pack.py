"""The pack as a package of a fixed name; importing this makes it so."""

from comfyhost.in_process import register

register()
