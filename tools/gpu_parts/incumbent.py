"""A model with an adapter by ComfyUI_IPAdapter_plus, from the folder of a checkout, to compare with.

Its adapter is an IP-Adapter Plus of the published size: as many image tokens as an IPAdapter-Instruct has.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import torch
from benchmarks.models import Base, drawn_tensors
from comfyhost.adapters import INPUTS, SHAPES, TOKENS, Plain, nested, plain_adapter

NODE = "IPAdapterEmbeds"
POSITIONS = 257  # of ViT-H's hidden states


def with_incumbent(folder: Path, model, base: Base, dtype: torch.dtype):
    shape, image = SHAPES[base.family.name], INPUTS["proj_in"]
    sizes = Plain("plus", shape.token_width, TOKENS, image, shape.width, shape.heads)
    tensors = nested(drawn_tensors(plain_adapter(sizes, base.site_widths), dtype))
    node = nodes_of(folder)[NODE]()
    states = torch.randn(1, POSITIONS, image)
    settings = {"weight": 1.0, "weight_type": "linear", "start_at": 0.0, "end_at": 1.0}
    embeds = {"pos_embed": states, "neg_embed": torch.zeros_like(states)}
    return getattr(node, node.FUNCTION)(model, tensors, **embeds, **settings)[0]


@cache
def nodes_of(folder: Path) -> dict[str, type]:
    """Load the pack as ComfyUI does, and return its nodes by their ids."""
    at = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("incumbent", folder / "__init__.py", **at)
    module = sys.modules["incumbent"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS
