"""Make image tokens of references and texts: what Encode Instruct Prompt hands to Apply.

encode, tokens, embeds        from a picture and its texts to embeds
loaded_adapter, held_models   an adapter in the host's memory management
image_encoder, pixels         pictures to hidden states
text_encoder, text_cache      texts to hidden states, each once
open_clip_...                 encoders from open_clip's files and names
"""
