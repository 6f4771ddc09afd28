"""What scenes and tasks are called in words, and a text encoder that knows these words."""
