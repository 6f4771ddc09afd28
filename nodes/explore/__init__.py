"""The nodes that compare settings in a grid, and show where a picture looks at its reference."""
