"""The scenes of the drawn world, and the drawings in them."""
