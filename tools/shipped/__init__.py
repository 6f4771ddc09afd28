"""The workflows in workflows/: described here, written from a running ComfyUI's schema, pictured in its page.

PYTHONPATH=tools python -m shipped             write the .json files
PYTHONPATH=tools python -m shipped.node_index  write docs/nodes.md
PYTHONPATH=tools python -m shipped.pictures    take the .jpg files
"""
