"""The nodes for face embeddings, which FaceID adapters read.

read_face    by insightface, from a photo; it saves the embedding when asked
load_face    from a file
"""
