"""A long run of one server on random prompts: what stays the same, what comes back, and what memory is left."""
