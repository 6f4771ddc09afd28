"""CLIP's towers, small, in files of both layouts and loaded by open_clip.

They are as wide as the real ones, which is how they are told, and have few layers.
"""

import pytest
import torch
from ipadapter_instruct.models.encoding.open_clip.towers import load_image_tower, load_text_tower
from safetensors.torch import save_file
from support import small_encoders
from support.open_clip_towers import LAYOUTS, SMALL


@pytest.fixture(scope="module")
def image_weights():
    """In float32, with numbers that half precision does not have."""
    return {name: weight.float() * 1.0001 for name, weight in small_encoders.vit_weights(**SMALL).items()}


@pytest.fixture(scope="module")
def image_files(tmp_path_factory, image_weights):
    """The same image tower in both layouts; open_clip's as a whole CLIP, with something of its text tower."""
    folder = tmp_path_factory.mktemp("image")
    tower = small_encoders.open_clip_vision_model(image_weights, small_encoders.vit_config(**SMALL)).state_dict()
    whole = {f"visual.{name}": weight.contiguous() for name, weight in tower.items()}
    whole |= {"logit_scale": torch.zeros(()), "ln_final.weight": torch.zeros(1024)}
    save_file(whole, folder / "open_clip.safetensors")
    save_file(image_weights, folder / "transformers.safetensors")
    return {layout: folder / f"{layout}.safetensors" for layout in LAYOUTS}


@pytest.fixture(scope="module")
def text_files(tmp_path_factory):
    """CLIP-L's text tower in both layouts; transformers' as in a checkpoint of SD1.5, in half precision."""
    folder = tmp_path_factory.mktemp("text")
    weights = small_encoders.clip_l_weights()
    state = small_encoders.open_clip_text_model(weights).state_dict()
    save_file({name: tensor for name, tensor in state.items()}, folder / "open_clip.safetensors")
    prefixed = {f"cond_stage_model.transformer.{name}": weight for name, weight in weights.items()}
    save_file(prefixed, folder / "transformers.safetensors")
    return {layout: folder / f"{layout}.safetensors" for layout in LAYOUTS}


@pytest.fixture(scope="module")
def encoder(image_files):
    return load_image_tower(image_files["transformers"])


@pytest.fixture(scope="module")
def clip(text_files):
    return load_text_tower(text_files["transformers"])


@pytest.fixture(scope="module")
def pixels():
    """A picture and zeros, [2, 3, 28, 28]."""
    picture = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return torch.cat([picture, torch.zeros_like(picture)])
