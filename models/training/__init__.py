"""Teaching an adapter on a frozen base model.

    pairs ──> lessons ──> batches ──┐
    recipe ─────────────────────────┼──> loop ──> adapter file
    start ──> learner ──> frozen base

Only the adapter learns. What the base computes is computed by ComfyUI's own classes, and how image tokens enter it by
the patches that sampling uses, so that a trained file does when it is used what it did when it was taught.
"""
