"""The nodes that make references ready, and keep embeds in files.

prepare_reference, tile     cut out and cropped by a mask; a large image in squares
save_embeds, load_embeds    files of what Encode made
"""
