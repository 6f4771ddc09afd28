"""The drawn world's models: text and image encoder, autoencoder, base model; each with its training."""
