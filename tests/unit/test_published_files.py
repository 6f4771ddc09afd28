"""Every published file, by its names and shapes: recognised for what it is, used to the last tensor, or refused."""

import logging
from types import SimpleNamespace

import pytest
import torch
from comfyhost.adapters import Plain, nested, plain_adapter
from comfyhost.weights import draw
from ipadapter_instruct.models.adapter.checkpoint import build, look_at, read_checkpoint, recognise
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.adapter.kinds import KINDS
from ipadapter_instruct.models.files.encoder_files import ENCODERS, EncoderNeed, EncoderSizes, check_sizes
from safetensors.torch import save_file
from support.published.adapter_files import FILES, INSTRUCT, PLAIN, blueprint, bytes_of_tensors, tensors, unfilled
from support.small_files import save_adapter
from torch import nn

OTHER_NAME = "my adapter.safetensors"
NEED_A_NAME = ("ip-adapter-faceid-plusv2_sd15.bin",)  # its tensors are those of FaceID-Plus
OVERHEAD = 200  # bytes of a tensor's name and place in a file, at most
SITES = (64, 128, 64)

each_file = pytest.mark.parametrize("name", FILES)
each_plain = pytest.mark.parametrize("name", PLAIN)

# Of every kind, files small enough to be written, and to be spoilt tensor by tensor.
TINY = {"width": 64, "heads": 2, "blocks": 2, "growth": 1}
SMALL = {
    "base": Plain("base"),
    "base of bigG": Plain("base", 2048, image=1280),
    "plus": Plain("plus", tokens=8, image=1280, **TINY),
    "full-face": Plain("full-face", image=1280),
    "faceid": Plain("faceid", rank=4),
    "portrait": Plain("faceid", tokens=16),
    "faceid-plus": Plain("faceid-plus", image=1280, width=768, heads=1, rank=4, blocks=1, growth=1),
    "faceid-resampler": Plain("faceid-resampler", 2048, 8, image=512, **TINY),
}
each_kind = pytest.mark.parametrize("kind", SMALL)


def small(kind: str):
    return plain_adapter(SMALL[kind], SITES)


def small_tensors(kind: str) -> dict[str, torch.Tensor]:
    return draw(small(kind), seed=0, dtype=torch.float32)


def used(checkpoint) -> dict[str, torch.Tensor]:
    """The tensors of a built adapter and its LoRA, under the names that the file gives them."""
    adapter = build(checkpoint)
    parts = [("image_proj.", adapter.image_projection), ("ip_adapter.", adapter.projections)]
    parts += [("ip_adapter.", adapter.streams)] if adapter.streams else []
    found = {prefix + name: w for prefix, module in parts for name, w in module.state_dict().items()}
    return {**found, **{f"ip_adapter.{name}": w for name, w in checkpoint.lora.items()}}


def is_as_expected(checkpoint, name: str) -> bool:
    expected, need = FILES[name], checkpoint.encoder_need
    reads = None if need is None else (need.width, need.image_embeds)
    found = (checkpoint.kind.name, checkpoint.family.name, reads, bool(checkpoint.lora))
    wanted = None if expected.reads is None else (expected.reads, expected.image_embeds)
    return found == (expected.kind, expected.family, wanted, expected.has_lora)


@each_file
def test_a_published_file_is_recognised(name):
    checkpoint = recognise(tensors(name), name)
    assert is_as_expected(checkpoint, name)
    assert build(checkpoint).image_projection.sizes.tokens == FILES[name].tokens


@each_file
def test_every_tensor_is_used_and_none_is_missed(name, caplog):
    with caplog.at_level(logging.WARNING):
        found = used(recognise(tensors(name), name))
    shapes = {name.replace("_big.", "."): weight.shape for name, weight in blueprint(name).items()}
    assert {name: tuple(weight.shape) for name, weight in found.items()} == shapes
    assert not caplog.records


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.size])
def test_the_tensors_fill_the_published_file(name):
    rest = FILES[name].size - bytes_of_tensors(name)
    assert 0 < rest < OVERHEAD * len(blueprint(name))


@pytest.mark.parametrize("name", [name for name in FILES if name not in NEED_A_NAME])
def test_names_do_not_matter_where_tensors_tell(name):
    assert is_as_expected(recognise(tensors(name), OTHER_NAME), name)
    assert is_as_expected(recognise(tensors(name)), name)


@each_plain
def test_a_training_file_with_its_base_model_is_the_same_adapter(name):
    renamed = {
        key.replace("image_proj.", "image_proj_model.", 1).replace("ip_adapter.", "adapter_modules.", 1): tensor
        for key, tensor in tensors(name).items()
    }
    checkpoint = recognise({**renamed, "unet.conv_in.weight": torch.empty(320, 4, 3, 3, device="meta")}, name)
    assert is_as_expected(checkpoint, name)
    assert used(checkpoint).keys() == tensors(name).keys()


@each_plain
def test_every_other_encoder_is_refused_and_the_right_one_is_not(name):
    need = recognise(tensors(name), name).encoder_need
    if need is None:
        return
    for encoder in ENCODERS:
        if need.matches(encoder.sizes):
            check_sizes(encoder.sizes, need, "file")
        else:
            with pytest.raises(ValueError, match="This adapter needs the image encoder .*; file is .* Get "):
                check_sizes(encoder.sizes, need, "file")


def test_an_encoder_without_a_projection_gives_no_pooled_embedding():
    with pytest.raises(ValueError, match="file is ViT-H .* without a projection .visual_projection."):
        check_sizes(EncoderSizes(1280), EncoderNeed(1024, image_embeds=True), "file")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ip-adapter_sd15.safetensors", "ViT-H"),
        ("ip-adapter_sd15_vit-G.safetensors", "ViT-bigG"),
        ("ip-adapter_sdxl.safetensors", "ViT-bigG"),
        ("ip-adapter-plus_sdxl_vit-h.safetensors", "ViT-H"),
        ("ip_adapter_plus_general.bin", "ViT-L at 336 pixels"),
    ],
)
def test_the_encoder_that_is_needed_is_called_by_its_name(name, title):
    assert recognise(tensors(name), name).encoder_need.encoder.title == title


# FaceID-PlusV2, which no tensor tells

PLUS_NAME = "ip-adapter-faceid-plus_sd15.bin"


PLUS_V2_NAMES = (
    "ip-adapter-faceid-plus.v2_sd15.bin",
    "plus.v2",
    "faceid plus v2.safetensors",
    "faceid_plus-_v2.bin",
    "FaceIDPlusV2.bin",
    "plusv-2.bin",
    "plus(v2).bin",
    "plusv2.1.bin",
    "plusv2sd15.bin",
)
OTHER_V2_NAMES = ("plus_sd15_v2_final.bin", "my-plus-sdxl-v2.safetensors", "faceidv2-plus.bin", "v2.plus.bin")
PLUS_NAMES = ("plus_v20.bin", "plus.v1.bin", "plus-v21.bin", "surplus2.bin", "dev2_plus.bin")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("ip-adapter-faceid-plusv2_sd15.bin", "faceid-plus-v2", "by 'plusv2' in its name"),
        ("My_FaceID Plus-V2 copy.safetensors", "faceid-plus-v2", "by 'plusv2' in its name"),
        *((name, "faceid-plus-v2", "by 'plusv2' in its name") for name in PLUS_V2_NAMES),
        *((name, "faceid-plus-v2", "by 'v2' in its name") for name in OTHER_V2_NAMES),
        *((name, "faceid-plus", "not V2: its name has no 'plusv2'") for name in PLUS_NAMES),
        (PLUS_NAME, "faceid-plus", "not V2: its name has no 'plusv2'"),
        ("", "faceid-plus", "not V2: its name has no 'plusv2'"),
    ],
)
def test_v2_is_told_by_the_name_and_the_note_says_so(name, kind, said):
    checkpoint = recognise(tensors(PLUS_NAME), name)
    assert checkpoint.kind.name == kind
    (note,) = checkpoint.notes
    assert note.endswith(said)


@pytest.mark.parametrize("kind", ["faceid-plus", "faceid-plus-v2"])
@pytest.mark.parametrize("name", [PLUS_NAME, "ip-adapter-faceid-plusv2_sd15.bin"])
def test_metadata_counts_more_than_the_name(kind, name):
    checkpoint = recognise(tensors(PLUS_NAME), name, {"kind": kind})
    assert checkpoint.kind.name == kind
    version = "V2" if kind == "faceid-plus-v2" else ""
    assert checkpoint.notes == (f"read as FaceID-Plus{version}, as the file says",)


def test_sdxl_has_v2_alone():
    (note,) = recognise(tensors("ip-adapter-faceid-plusv2_sdxl.bin"), OTHER_NAME).notes
    assert note == "read as FaceID-PlusV2, the only one published for SDXL"


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if not file.kind.startswith("faceid-plus")])
def test_nothing_is_noted_of_a_file_whose_tensors_tell_all(name):
    assert recognise(tensors(name), name).notes == ()


# Files on the disk


@each_kind
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_file_is_told_by_its_shapes_alone(kind, suffix, tmp_path):
    path = save_adapter(small_tensors(kind), tmp_path / f"adapter{suffix}")
    found, read = look_at(path), read_checkpoint(path)
    assert (found.kind, found.family, found.encoder_need) == (read.kind, read.family, read.encoder_need)
    assert found.kind.name == SMALL[kind].kind


@each_kind
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_converted_file_is_of_the_same_kind_and_holds_every_tensor(kind, suffix, tmp_path):
    source = save_adapter(small_tensors(kind), tmp_path / f"adapter{suffix}")
    made = convert(source, tmp_path / "half.safetensors")
    found = read_checkpoint(made.target)
    assert made.kind is found.kind is read_checkpoint(source).kind
    assert used(found).keys() == small_tensors(kind).keys()
    assert made.kind.title in str(made)


@pytest.mark.parametrize("name", ["a-plusv2.bin", "a-plus.bin"])
def test_a_conversion_keeps_v2_under_any_name(name, tmp_path):
    source = save_adapter(small_tensors("faceid-plus"), tmp_path / name)
    kind = convert(source, tmp_path / "one.safetensors").kind
    assert kind.name == ("faceid-plus-v2" if "v2" in name else "faceid-plus")
    again = convert(tmp_path / "one.safetensors", tmp_path / "plusv2 or not.safetensors")
    assert again.kind is kind is read_checkpoint(again.target).kind
    assert look_at(tmp_path / "one.safetensors").kind is look_at(again.target).kind is kind


def test_a_conversion_of_a_training_file_has_the_published_names(tmp_path):
    parts = nested(small_tensors("faceid"))
    flat = {f"image_proj_model.{n}": t for n, t in parts["image_proj"].items()}
    flat |= {f"adapter_modules.{n}": t for n, t in parts["ip_adapter"].items()}
    save_file({**flat, "unet.conv_in.weight": torch.zeros(3)}, tmp_path / "trained.safetensors")
    made = convert(tmp_path / "trained.safetensors", tmp_path / "half.safetensors")
    assert used(read_checkpoint(made.target)).keys() == small_tensors("faceid").keys()


@each_kind
def test_every_layer_is_one_of_the_hosts(kind):
    host = SimpleNamespace(Linear=type("Linear", (nn.Linear,), {}), LayerNorm=type("LayerNorm", (nn.LayerNorm,), {}))
    adapter = build(recognise(small_tensors(kind)), host)
    layers = [layer for part in (adapter.image_projection, adapter.projections) for layer in part.modules()]
    weighted = {type(layer) for layer in layers if isinstance(layer, (nn.Linear, nn.LayerNorm))}
    assert weighted == {host.Linear, host.LayerNorm}


# Broken files


def refusal(spoilt) -> str:
    with pytest.raises(ValueError) as caught:
        build(recognise(spoilt))
    return str(caught.value)


@each_kind
def test_whichever_tensor_is_missing_it_is_named(kind):
    whole = unfilled(small(kind))
    for name in whole:
        message = refusal({n: t for n, t in whole.items() if n != name})
        assert f"missing: {name}." in message, name
        assert "Download it again" in message, name


@each_kind
def test_whichever_tensor_has_twice_its_rows_it_does_not_fit_the_others(kind):
    whole = unfilled(small(kind))
    for name, tensor in whole.items():
        if name.endswith("_lora.up.weight"):
            continue  # fits every file, and no model: Apply says so
        message = refusal({**whole, name: torch.cat([tensor, tensor])})
        assert "expected" in message or "known widths" in message, name
        assert "Download it again" in message or "Load an adapter made for" in message, name


@each_kind
def test_whichever_matrix_has_lost_a_dimension_it_is_refused(kind):
    whole = unfilled(small(kind))
    for name, tensor in whole.items():
        if tensor.ndim > 1:
            message = refusal({**whole, name: tensor[0, 0]})
            assert "expected" in message, name
            assert "Download it again" in message, name


def test_both_halves_of_a_lora_layer_of_no_rank_are_named_with_their_shapes():
    whole = unfilled(small("faceid"))
    message = refusal({**whole, "ip_adapter.2.to_out_lora.up.weight": torch.empty(128, 3, device="meta")})
    assert "ip_adapter.2.to_out_lora was expected to be two matrices of one rank" in message
    assert "[4, 128] and [128, 3]" in message


@pytest.mark.parametrize("width", [1024, 1664])
def test_tokens_of_no_known_base_model_are_refused(width):
    message = refusal(unfilled(plain_adapter(Plain("base", width), SITES)))
    assert f"tokens of width {width}" in message
    assert "Load an adapter made for one of these" in message


def test_the_table_holds_every_kind_that_the_pack_knows():
    assert {file.kind for file in FILES.values()} == {kind.name for kind in KINDS}
    assert INSTRUCT.keys() < FILES.keys()
