"""The drawn world's autoencoder: TAESD with 16 channels, whose encoder is linear and whose decoder is trained."""
