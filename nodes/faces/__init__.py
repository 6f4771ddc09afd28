"""Face embeddings for FaceID adapters."""
