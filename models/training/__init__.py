"""Train an adapter on a frozen base model.

    pairs, image_pairs, dataset, batch     from images and texts to batches, encoded once
    initial_checkpoint, trainable_adapter  what is trained; frozen_base: on what
    training_arguments, accelerator        how, and in which processes
    trainer                                the one way to set a training up, and its steps
    validation, loss_plot                  how far it has come

What the base computes is computed by ComfyUI's own classes and the patches that sampling uses.
"""
