"""A world of drawings: emoji that people drew, and models trained on them from nothing. `docs/world.md` has figures.

    PYTHONPATH=tools python -m drawn_world.demo          one picture, six instructions: `make demo`
    PYTHONPATH=tools python -m drawn_world.table         what crosses over, by `evaluate`: `make world-table`
    PYTHONPATH=tools python -m drawn_world.style_sheet   five references, three prompts
    PYTHONPATH=tools python -m drawn_world.whole_way     pairs, train and evaluate there: `make world-way`
    PYTHONPATH=tools python -m drawn_world.train         everything anew: `make world`

How it works. A scene is one drawing or two of 50 concepts in one of five styles, maybe tinted, at whole tokens of a
96 x 96 picture, on one of nine grounds. The text encoder (CLIP-L's shape) turns each word that means something into its
sense's code and all else into zeros, so the base model is trained on codes, hears nothing of the pooled text, and takes
17 states for 77. The image encoder (ViT-H's shape) is a convolutional net that lies inside attention. Both are narrow
nets that are trained alone; the tests hold that ComfyUI computes the same with the wide files made of them.

An adapter's two halves meet at the codes. `adapter.reading` teaches the resampler to turn a picture and an instruction
into the codes of what is asked for; `adapter.writing` teaches the attention what to do with codes, from the base
model's own predictions. Padding ends in eight blanks, which say nothing to the base: there an adapter writes words.
"""
