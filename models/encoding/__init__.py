"""Make image tokens of references and texts: what Encode Instruct Prompt hands to Apply.

references, features          what comes from the graph, and what encoders have read of it
encode, tokens, combining     from these and texts to image tokens of one or several references
embeds, stored_embeds         what is handed on, alone, combined or with keyframes, also as files
loaded_adapter, held_models   an adapter in the host's memory management
image_encoder, pixels         images to hidden states
text_encoder                  texts to hidden states, each once
open_clip                     encoders from open_clip's files and names
"""
