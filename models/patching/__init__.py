"""Bring embeds into sampling, by three of the host's wrappers (`wrappers`):

    SAMPLER_SAMPLE    once a run: keys and values of every site, kept until it ends (`run`)
    CALC_COND_BATCH   each step: the host's lists become one for each branch, and the predictions the host's again
                      (`passes`, `pooled_texts`)
    APPLY_MODEL       each call: attention patches for the rows of this batch (`batch_index`; `model_calls`: what
                      other packs see of it)

`apply` puts an immutable `chain` of what is applied into transformer_options; nothing else outlives the run.
"""
