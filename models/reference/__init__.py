"""A reference before it is encoded.

preparing              cutting out, cropping and tiling
faces, face_analysis   face embeddings, and insightface, which reads them
"""
