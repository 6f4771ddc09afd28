"""All that the pack computes, in rooms of which each imports only those above it in this list.

families, messages, bounded_cache    the ground: the table of base models; checks, and words of errors
files           tensor files, pickles, encoders' files, writing whole or not at all, downloads
guidance        the paper, pure: branches, coefficients, tasks, layer weights, schedules
denoisers       what differs between a UNet and an MMDiT, and where image tokens enter them
adapter         what a file holds: kinds, checkpoint, resampler, projections, conversion
reference       a reference before it is encoded: preparing, faces
encoding        references and texts to embeds, alone, combined or stored
patching        embeds into sampling. Start here, after guidance
attention_maps  which parts of an image look at the reference
training        adapters of one's own
"""
