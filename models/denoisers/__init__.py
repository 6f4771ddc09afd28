"""The kinds of models, and the places where image tokens enter them.

denoiser       what differs between kinds of denoisers; unet, mmdit: the two there are
rows           what a model call holds, and what its sites ask of an adapter
adapter_layers an adapter's layers, as its file has them; ..._patch: what acts in the host's attention
model_view     a model as one clone of it will have it, and its sites; site_checks: whether adapters fit them
"""

from . import mmdit, unet  # noqa: F401 (each registers its kind)
