"""The stand-in models: shapes of the published files, finite values, written once."""

from __future__ import annotations

import json

import pytest
import torch
from comfyhost.adapters import instruct_adapter, nested
from comfyhost.checkpoints import KINDS, MMDITS, UNETS, checkpoint, cross_attention_widths, joint_block_widths
from comfyhost.encoders import clip_g_text, open_clip_g_text, vit_h
from comfyhost.places import Host, ToolError
from comfyhost.standins import NOTE, RECORD, STAND_INS, VIT_H, StandIn, published_files, put_in_place, write_stand_ins
from comfyhost.weights import Blueprint, draw
from safetensors import safe_open

REAL_SITES = {
    "sd15": [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [1280],
    "sdxl": [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10,
    "sd3": [1536] * 12,
}


@pytest.mark.parametrize(("family", "size"), [("sd15", 352_217_088), ("sdxl", 2_122_546_176), ("sd3", 1_562_631_168)])
def test_an_adapter_of_the_real_widths_has_the_published_size(family, size):
    """The published files are 352 MB, 2.12 GB and 1.56 GB of float32."""
    assert instruct_adapter(family, REAL_SITES[family]).size(torch.float32) == size


def test_the_stand_in_checkpoint_has_the_real_cross_attentions():
    assert cross_attention_widths(UNETS["sd15real"]) == REAL_SITES["sd15"]
    assert len(cross_attention_widths(UNETS["sdxlfull"])) == 70
    assert len(cross_attention_widths(UNETS["sd15full"])) == 16


def test_an_mmdit_receives_image_tokens_in_every_second_block():
    assert joint_block_widths(MMDITS["sd3deep"]) == [384] * 3
    assert joint_block_widths(MMDITS["sd35"]) == [192] * 2


@pytest.mark.parametrize("family", STAND_INS)
def test_the_stand_in_adapter_has_the_published_resampler_and_fits_its_checkpoint(family):
    published = instruct_adapter(family, REAL_SITES[family])
    adapter, parts = stand_in(family, "ipadapter").describe(), stand_in(family, "checkpoints").describe()
    assert image_part(adapter) == image_part(published)
    assert site_widths(adapter) == denoiser_widths(parts)


def stand_in(family: str, folder: str) -> StandIn:
    (found,) = (s for s in STAND_INS[family] if s.path.startswith(f"{folder}/"))
    return found


def image_part(adapter: Blueprint) -> dict:
    return {name: weight for name, weight in adapter.items() if name.startswith("image_proj.")}


def site_widths(adapter: Blueprint) -> list[int]:
    """The widths of the sites that a file lists, sorted: checkpoints list their layers in another order."""
    return sorted(w.shape[0] for name, w in adapter.items() if name.endswith(".to_k_ip.weight"))


def denoiser_widths(parts: Blueprint) -> list[int]:
    """The widths of a UNet's cross attentions, or of an MMDiT's even blocks, sorted."""
    cross = [w.shape[0] for name, w in parts.items() if name.endswith(".attn2.to_k.weight")]
    joint = [w.shape[1] for name, w in parts.items() if name.endswith(".x_block.attn.qkv.weight")]
    return sorted(cross or joint[::2])


def test_the_real_unet_has_its_860_million_weights():
    denoiser = [w for name, w in checkpoint("sd15real").items() if name.startswith("model.diffusion_model.")]
    assert sum(torch.Size(weight.shape).numel() for weight in denoiser) == 859_520_964


def test_vit_h_has_its_632_million_weights():
    assert vit_h().size(torch.int8) == 632_076_800


@pytest.mark.parametrize("tower", [clip_g_text, open_clip_g_text])
def test_clip_g_has_its_695_million_weights_in_both_layouts(tower):
    assert tower().size(torch.int8) == 694_659_840


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_checkpoints_of_two_text_encoders_hold_both_and_no_t5(family):
    parts = stand_in(family, "checkpoints").describe()
    vocabularies = [name for name in parts if name.endswith("token_embedding.weight")]
    assert sorted(parts[name].shape for name in vocabularies) == [(49408, 768), (49408, 1280)]
    assert not any("t5xxl" in name for name in parts)


def test_sd3s_text_encoders_have_the_names_by_which_comfyui_sees_them():
    """supported_models.SD3.clip_target takes an encoder for absent, without a word, when this name is."""
    parts = stand_in("sd3", "checkpoints").describe()
    for tower in ("clip_l", "clip_g"):
        assert f"text_encoders.{tower}.transformer.text_model.final_layer_norm.weight" in parts


def test_matrices_may_have_a_number_type_of_their_own():
    parts = Blueprint()
    parts.linear("layer", 8, 4)
    parts = parts.with_matrices(torch.float8_e4m3fn)
    drawn = draw(parts, seed=0, dtype=torch.float16)
    assert {name: tensor.dtype for name, tensor in drawn.items()} == {
        "layer.weight": torch.float8_e4m3fn,
        "layer.bias": torch.float16,
    }
    assert parts.size(torch.float16) == sum(tensor.nbytes for tensor in drawn.values()) == 32 + 8


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
    assert {family: [s.path for s in files] for family, files in STAND_INS.items()} == {
        "sd15": [
            "checkpoints/v1-5-pruned-emaonly-fp16.safetensors",
            "ipadapter/ip-adapter-instruct-sd15.bin",
            VIT_H.path,
        ],
        "sdxl": ["checkpoints/sd_xl_base_1.0.safetensors", "ipadapter/ip-adapter-instruct-sdxl.bin", VIT_H.path],
        "sd3": [
            "checkpoints/sd3_medium_incl_clips.safetensors",
            "ipadapter/ip-adapter-instruct-sd3.bin",
            VIT_H.path,
        ],
    }


def test_a_familys_files_are_written_when_that_family_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(STAND_INS, "sd15", (small("checkpoints/one.safetensors"),))
    monkeypatch.setitem(STAND_INS, "sdxl", (small("checkpoints/other.safetensors"),))
    monkeypatch.setattr("comfyhost.standins.host", lambda: Host(tmp_path, tmp_path, tmp_path, users_own=False))

    def written() -> set[str]:
        return {path.stem for path in (tmp_path / "checkpoints").iterdir()}

    put_in_place()
    assert written() == {"one"}
    put_in_place("sdxl")
    assert written() == {"one", "other"}
    with pytest.raises(ToolError, match="family flux. Choose one of: sd15, sdxl, sd3"):
        put_in_place("flux")


def test_nothing_is_written_into_a_users_own_models(tmp_path, monkeypatch):
    monkeypatch.setattr("comfyhost.standins.host", lambda: Host(tmp_path, tmp_path, tmp_path, users_own=True))
    put_in_place("sdxl")
    assert not list(tmp_path.iterdir())


def test_published_files_are_told_from_stand_ins(tmp_path, monkeypatch):
    """By the record of what was written: a file of the same name, in either format, that is not in it."""
    monkeypatch.setattr("comfyhost.standins.host", lambda: Host(tmp_path, tmp_path, tmp_path, users_own=False))
    for stand_in in STAND_INS["sd15"]:
        (tmp_path / stand_in.path).parent.mkdir(exist_ok=True)
        (tmp_path / stand_in.path).touch()
    assert published_files("sd15")
    own = STAND_INS["sd15"][1].path
    (tmp_path / RECORD).write_text(json.dumps({own: {}}))
    assert not published_files("sd15")
    (tmp_path / own).with_suffix(".safetensors").touch()
    assert published_files("sd15")
    assert not published_files("sdxl")
