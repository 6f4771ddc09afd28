"""Teaching an adapter on a frozen base model.

    pairs, recipe -> lessons -> batches -> loop -> adapter file
    start -> learner, and the frozen base -> loop

Only the adapter learns. What the base computes is computed by ComfyUI's own classes, and how image tokens enter it by
the patches that sampling uses, so that a trained file does when it is used what it did when it was taught.
"""
