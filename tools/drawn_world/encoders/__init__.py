"""Text and image encoders in the shapes of CLIP-L and ViT-H, of which a small part does something and is trained."""
