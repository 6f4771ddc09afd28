"""A world of drawings: emoji that people drew, and models trained on them from nothing. `docs/world.md` has figures.

    PYTHONPATH=tools python -m drawn_world.demo          one picture, six instructions: `make demo`
    PYTHONPATH=tools python -m drawn_world.table         what crosses over, by `evaluate`: `make world-table`
    PYTHONPATH=tools python -m drawn_world.style_sheet   five references, three prompts
    PYTHONPATH=tools python -m drawn_world.whole_way     pairs, train and evaluate there: `make world-way`
    PYTHONPATH=tools python -m drawn_world.train         everything anew: `make world`

How it works. A scene (`scenes`) is one drawing or two of 50 concepts in one of five styles, maybe tinted, at whole
tokens of a 96 x 96 image, on one of nine grounds. The text encoder (`models`, CLIP-L's shape) turns each word that has
a sense into the sense's code and all else into zeros, so the base model is trained on codes, does not use the pooled
text, and takes 17 hidden states for 77. The image encoder (ViT-H's shape) is a convolutional net that lies inside
attention. Both are narrow nets that are trained alone; the tests hold that ComfyUI computes the same with the wide
files made of them.

An adapter's two halves (`adapter`) meet at the codes. `train_resampler` trains the resampler to turn an image and an
instruction into the codes of what is asked for; `train_attention` trains the attention to draw what codes say, by the
base model's own predictions. Padding ends in eight blanks, which mean nothing to the base: an adapter writes there.
"""
