"""The pack as a package of a fixed name; importing this makes it so."""

from comfyhost.pack import register

register()
