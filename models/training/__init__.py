"""Train an adapter on a frozen base model.

    pairs, dataset, batch, state_cache    from pictures to examples, encoded once
    initial_checkpoint, trainable_adapter what is trained; frozen_base: on what
    recipe, trainer, accelerator          how, and on which devices
    validation, loss_plot                 how far it has come
    job, small_dataset                    a whole run from files, and from a graph

What the base computes is computed by ComfyUI's own classes and the patches that sampling uses.
"""
