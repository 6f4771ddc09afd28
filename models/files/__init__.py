"""Files: read without running what they carry, written whole or not at all, and fetched.

tensor_files, pickled_files    tensors by name; encoder_files: which image encoder a file holds
published_files, download       where published files are, and getting them by huggingface_hub
atomic_write                   a file is there whole, or as it was; tensor_cache: one for each thing that is encoded
"""
