"""A fuzzer over the files that the pack reads: adapters, stored embeds, face embeddings, encoders.

Every input is drawn by hypothesis from a seed and an index, so that it can be made again. It must end in a load, or in
the pack's own error with a message that says what to do: never in another exception, a crash, a hang, code that ran,
another file than before, or more memory than the file accounts for.
"""

from comfyhost.in_process import register

register()
