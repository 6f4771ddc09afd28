"""Make image tokens of references and texts: what Encode Instruct Prompt hands to Apply.

references, encode, tokens    from references and texts to embeds
embeds                        what is handed on, alone, combined or with keyframes
loaded_adapter, held_models   an adapter in the host's memory management
image_encoder, pixels         images to hidden states
text_encoder, text_cache      texts to hidden states, each once
open_clip_...                 encoders from open_clip's files and names
"""
