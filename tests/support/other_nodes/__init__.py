"""Other nodes and packs that change the same model as the pack."""
