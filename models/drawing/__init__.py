"""Pictures drawn for people to look at, by Pillow.

label_sheet   images in rows and columns, with labels
"""
