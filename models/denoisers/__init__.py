"""The kinds of models, and the places where image tokens enter them.

denoiser       what differs between kinds of denoisers; unet, mmdit: the two there are
sites, rows    where adapters act, and what a model call holds
..._attention  an adapter's layers, as its file has them; ..._patch: what acts in the host's attention
model_view     a model as one clone of it will have it
"""

from . import mmdit, unet  # noqa: F401 (each registers its kind)
