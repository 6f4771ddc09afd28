"""The scenes of the drawn world: drawn, judged, and told in words."""
