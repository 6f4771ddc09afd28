"""The nodes for face embeddings, which FaceID adapters read."""
