"""The paper, without ComfyUI: four branches, their coefficients, and what instructions mean.

branches                  the predictions of a guided step, and how they add up
tasks                     what adapters were trained on, in which words
layer_weights, weight_schedule    factors on the weight, by layer and over the steps
"""
