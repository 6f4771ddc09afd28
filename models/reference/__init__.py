"""A reference before it is encoded.

preparing, masks         cutting out and cropping; masks in one form
features, stored_embeds  what encoders have read, and embeds as files
combining                several references as one
faces, face_analysis     face embeddings, and insightface, which reads them
"""
