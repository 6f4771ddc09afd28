"""The paper, without ComfyUI: four branches, their coefficients, and what instructions mean.

branches, coefficients    the predictions of a guided step, and how they add up
tasks, task_phrasings     what adapters were trained on, in which words
layer_weights, weight_schedule    factors on the weight, by layer and over the steps
"""
