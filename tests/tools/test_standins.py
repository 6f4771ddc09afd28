"""The stand-in models: shapes of the published files, finite values, written once."""

from __future__ import annotations

import pytest
import torch
from comfyhost.adapters import instruct_adapter, nested
from comfyhost.checkpoints import KINDS, UNETS, checkpoint
from comfyhost.denoisers import cross_attention_widths
from comfyhost.encoders import vit_h
from comfyhost.standins import NOTE, RECORD, STAND_INS, StandIn, write_stand_ins
from comfyhost.weights import Blueprint, draw
from safetensors import safe_open

FLOAT32 = 4
REAL_SITES = {
    "sd15": [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [1280],
    "sdxl": [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10,
    "sd3": [1536] * 12,
}


@pytest.mark.parametrize(
    ("family", "size"), [("sd15", 352_217_088), ("sdxl", 2_122_546_176), ("sd3", 1_562_631_168)]
)
def test_an_adapter_of_the_real_widths_has_the_published_size(family, size):
    """The published files are 352 MB, 2.12 GB and 1.56 GB of float32."""
    assert instruct_adapter(family, REAL_SITES[family]).parameters() * FLOAT32 == size


def test_the_stand_in_checkpoint_has_the_real_cross_attentions():
    assert cross_attention_widths(UNETS["sd15real"]) == REAL_SITES["sd15"]
    assert len(cross_attention_widths(UNETS["sdxlfull"])) == 70
    assert len(cross_attention_widths(UNETS["sd15full"])) == 16


def test_the_real_unet_has_its_860_million_weights():
    denoiser = [w for name, w in checkpoint("sd15real").items() if name.startswith("model.diffusion_model.")]
    assert sum(torch.Size(weight.shape).numel() for weight in denoiser) == 859_520_964


def test_vit_h_has_its_632_million_weights():
    assert vit_h().parameters() == 632_076_800


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_denoiser_a_text_encoder_and_a_vae(kind):
    names = list(checkpoint(kind))
    assert any(name.startswith("model.diffusion_model.") for name in names)
    assert any(name.endswith("text_model.final_layer_norm.weight") for name in names)
    assert any(name.startswith("first_stage_model.taesd_decoder.") for name in names)


def test_an_unknown_kind_or_family_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="sd15full"):
        checkpoint("sd16")
    with pytest.raises(ValueError, match="sdxl"):
        instruct_adapter("flux", [320])


def test_drawing_is_repeatable_and_keeps_types():
    parts = Blueprint()
    parts.linear("layer", 8, 4)
    parts.constant("scale", 1.0)
    first, again, other = (draw(parts, seed, torch.float16) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layer.weight"], other["layer.weight"])
    assert (first["layer.weight"].dtype, first["scale"].dtype) == (torch.float16, torch.float32)
    assert first["scale"] == 1


def test_the_published_nesting_of_the_pickle():
    assert nested({"image_proj.latents": 1, "ip_adapter.1.to_k_ip.weight": 2}) == {
        "image_proj": {"latents": 1},
        "ip_adapter": {"1.to_k_ip.weight": 2},
    }


def small(path: str, width: int = 4) -> StandIn:
    def describe() -> Blueprint:
        parts = Blueprint()
        parts.linear("image_proj.layer", width, width)
        return parts

    return StandIn(path, describe)


def test_a_stand_in_is_written_once_and_says_what_it_is(tmp_path):
    stand_in = small("checkpoints/a.safetensors")
    write_stand_ins(tmp_path, (stand_in,))
    path = tmp_path / stand_in.path
    with safe_open(path, "pt") as file:
        assert file.metadata() == NOTE
    before = path.stat().st_mtime_ns
    write_stand_ins(tmp_path, (stand_in,))
    assert path.stat().st_mtime_ns == before
    assert "stand-ins" in (tmp_path / "README.txt").read_text()


def test_a_stand_in_is_written_again_when_it_is_gone_cut_short_or_described_anew(tmp_path):
    stand_in = small("checkpoints/a.safetensors")
    path = tmp_path / stand_in.path

    def size_after_writing(wanted: StandIn) -> int:
        write_stand_ins(tmp_path, (wanted,))
        return path.stat().st_size

    size = size_after_writing(stand_in)
    path.unlink()
    assert size_after_writing(stand_in) == size
    path.write_bytes(path.read_bytes()[:10])
    assert size_after_writing(stand_in) == size
    assert size_after_writing(small(stand_in.path, width=8)) > size
    (tmp_path / RECORD).write_text("spoilt")
    assert size_after_writing(stand_in) == size


def test_a_pickle_is_nested_and_loads_without_running_code(tmp_path):
    stand_in = small("ipadapter/a.bin")
    write_stand_ins(tmp_path, (stand_in,))
    loaded = torch.load(tmp_path / stand_in.path, weights_only=True)
    assert loaded["image_proj"]["layer.weight"].shape == (4, 4)


def test_nothing_half_written_stays_behind(tmp_path):
    write_stand_ins(tmp_path, (small("checkpoints/a.safetensors"),))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["a.safetensors"]


def test_the_stand_ins_have_the_names_of_the_published_files():
    assert {stand_in.path for stand_in in STAND_INS} >= {
        "checkpoints/v1-5-pruned-emaonly-fp16.safetensors",
        "clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
        "ipadapter/ip-adapter-instruct-sd15.bin",
    }
