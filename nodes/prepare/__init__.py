"""References before they are encoded, and embeds as files."""
