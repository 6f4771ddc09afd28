"""Small tensors that are the subject of a law, and their comparison."""
