"""The nodes that compare settings, and show where an image looks at its reference.

grid, grid_cells          an image for every pair of two settings' values
label_grid                images on one sheet, with labels
watch, heat_map           maps of the attention
"""
