"""How the adapter enters ComfyUI: its encoders, its memory management, its sampling.

A sampling run meets the pack in three of the host's wrappers (`hooks`):

    SAMPLER_SAMPLE    once a run: keys and values of every site are computed and kept until it ends (`begin`)
    CALC_COND_BATCH   each step: the host's two lists become one list for each branch (`passes`), and the
                      branches' predictions become the host's two
    APPLY_MODEL       each call: attention patches for the rows of this batch (`unet`, `mmdit`)

What is applied is an immutable `Chain` in transformer_options; nothing else outlives the run.
"""
