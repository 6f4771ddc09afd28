"""The nodes that prepare references before they are encoded, and keep embeds in files."""
