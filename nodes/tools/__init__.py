"""The nodes for encoders and adapters of other formats, and for training."""
