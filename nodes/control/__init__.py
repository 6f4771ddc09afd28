"""The nodes that decide when, where and by what settings an adapter acts.

schedule, layer_weights    factors on the weight: over the sampling and a batch, and in the model's parts
task                       a trained task's wordings, and what is recommended for it
"""
