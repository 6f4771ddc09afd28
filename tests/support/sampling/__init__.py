"""Short sampling runs, and what they should give."""
