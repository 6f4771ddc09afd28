"""Files that are no usable adapter: each message says what was expected, what was found and what to do."""

import gzip
import pickle
import re
import warnings
import zipfile

import pytest
import torch
from comfyhost.adapters import nested
from ipadapter_instruct.models.adapter.checkpoint import build, recognise
from ipadapter_instruct.models.files.tensor_files import AdapterFileError, read_file, read_shapes, wrong_suffix
from safetensors.torch import save_file
from support.small_files import adapter_tensors, save_adapter


def one_block(family: str) -> dict[str, torch.Tensor]:
    """An adapter whose resampler has a single block."""
    return {name: t for name, t in adapter_tensors(family).items() if not re.search(r"layers\.[123]\.", name)}


TENSORS = one_block("sd15")
FAMILIES = ["sd15", "sdxl", "sd3"]
EXPECTED = "An IPAdapter-Instruct or IP-Adapter file was expected"
GET_A_FILE = "https://huggingface.co/CiaraRowles/IP-Adapter-Instruct/resolve/main/ip-adapter-instruct-sd15.bin"
DOWNLOAD_AGAIN = "Download it again and compare its size."

OTHER_FILES = {
    "peft LoRA": ("base_model.model.down.0.to_q.lora_A.weight", "this is a LoRA", "Load LoRA"),
    "kohya LoRA": ("lora_unet_down_blocks_0_to_q.lora_up.weight", "this is a LoRA", "Load LoRA"),
    "diffusers LoRA": ("unet.down_blocks.0.processor.to_q_lora.up.weight", "this is a LoRA", "Load LoRA"),
    "diffusers text LoRA": ("text_encoder.q_proj.lora_linear_layer.up.weight", "this is a LoRA", "Load LoRA"),
    "VAE": ("decoder.conv_in.weight", "this is a VAE", "Load VAE"),
    "checkpoint": ("model.diffusion_model.out.0.weight", "this is a whole checkpoint", "Load Checkpoint"),
    "ViT": ("vision_model.embeddings.patch_embedding.weight", "this is an image encoder", "as image_encoder"),
    "open_clip ViT": ("visual.conv1.weight", "this is an image encoder", "as image_encoder"),
    "text encoder": ("text_model.embeddings.token_embedding.weight", "this is a text encoder", "Load CLIP"),
    "T5": ("encoder.block.0.layer.0.SelfAttention.k.weight", "this is a text encoder", "Load CLIP"),
    "ControlNet": ("input_hint_block.0.weight", "a ControlNet or a bare UNet", GET_A_FILE),
    "diffusers UNet": ("down_blocks.0.attentions.0.norm.weight", "a ControlNet or a bare UNet", GET_A_FILE),
    "unknown": ("some.tensor", "this file holds some.tensor", GET_A_FILE),
}


def refusal(tensors) -> str:
    with pytest.raises(ValueError) as caught:
        build(recognise(tensors))
    return str(caught.value)


def refusal_of_file(path) -> str:
    with pytest.raises(AdapterFileError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of odd pickle protocols
        build(recognise(read_file(path)))
    return str(caught.value)


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_kind_of_file_is_named_and_where_it_belongs(kind):
    name, found, remedy = OTHER_FILES[kind]
    message = refusal({name: torch.zeros(2, 2)})

    assert EXPECTED in message
    assert found in message
    assert remedy in message


def test_a_file_without_tensors_says_so():
    message = refusal({})
    assert EXPECTED in message
    assert "no tensors at all" in message
    assert GET_A_FILE in message


def test_a_long_file_is_not_listed_to_its_end():
    message = refusal({f"layer{i:03}": torch.zeros(1) for i in range(300)})
    assert "layer003 and 296 more" in message


@pytest.mark.parametrize("part", ["image_proj.", "ip_adapter."])
def test_one_part_of_an_adapter_alone_is_none(part):
    with pytest.raises(AdapterFileError, match=f"{EXPECTED} .*; this file holds {part}"):
        recognise({name: tensor for name, tensor in TENSORS.items() if name.startswith(part)})


@pytest.mark.parametrize(("family", "first"), [("sd15", "1"), ("sd3", "0")])
def test_an_adapter_without_a_single_layer_of_attention_is_told_the_first(family, first):
    tensors = {name: t for name, t in one_block(family).items() if not name.startswith("ip_adapter.")}
    assert f"missing: ip_adapter.{first}.to_k_ip.weight." in refusal({**tensors, "ip_adapter.x": torch.zeros(1)})


@pytest.mark.parametrize("family", FAMILIES)
def test_whichever_tensor_is_missing_it_is_named(family):
    tensors = one_block(family)
    for name in tensors:
        message = refusal({n: t for n, t in tensors.items() if n != name})

        assert EXPECTED in message
        assert f"missing: {name.replace('_big', '')}." in message
        assert DOWNLOAD_AGAIN in message


@pytest.mark.parametrize("family", FAMILIES)
def test_whichever_tensor_has_twice_its_rows_it_does_not_fit_the_others(family):
    tensors = one_block(family)
    for name, tensor in tensors.items():
        message = refusal({**tensors, name: torch.cat([tensor, tensor])})

        assert "expected" in message or "known widths" in message, name
        assert DOWNLOAD_AGAIN in message or "Load an adapter made for" in message, name


@pytest.mark.parametrize("family", FAMILIES)
def test_whichever_matrix_has_lost_a_dimension_it_is_refused(family):
    tensors = one_block(family)
    for name in (name for name, tensor in tensors.items() if tensor.ndim > 1):
        message = refusal({**tensors, name: tensors[name][0, 0]})

        assert "expected" in message, name
        assert DOWNLOAD_AGAIN in message, name


def test_a_misshapen_tensor_is_named_with_both_shapes():
    message = refusal({**TENSORS, "image_proj.layers.0.0.to_out.weight": torch.zeros(3, 5)})
    assert "image_proj.layers.0.0.to_out.weight was expected to be [64, 128]" in message
    assert "is [3, 5]" in message
    assert DOWNLOAD_AGAIN in message


def test_whole_numbers_in_place_of_weights_are_refused():
    message = refusal({**TENSORS, "image_proj.latents": TENSORS["image_proj.latents"].to(torch.int8)})
    assert "image_proj.latents was expected to hold floating-point numbers; it holds torch.int8" in message
    assert GET_A_FILE in message


def test_a_token_width_of_no_known_base_model_is_refused():
    message = refusal(adapter_tensors(token_width=1024))
    assert "tokens of width 1024" in message
    assert "known widths are SD1.5 768, SDXL 2048" in message
    assert "Load an adapter made for one of these" in message


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:8a4e97\nsize 352\n", b"<!DOCTYPE html>\n<html>"],
    ids=["empty", "Git LFS pointer", "web page"],
)
def test_a_file_that_holds_something_else_is_refused_with_its_size(tmp_path, suffix, content):
    path = tmp_path / f"adapter{suffix}"
    path.write_bytes(content)
    message = refusal_of_file(path)

    assert f"{path.name} was expected to be a file of tensors" in message
    assert f"its {len(content)} bytes cannot be read" in message
    assert DOWNLOAD_AGAIN in message


@pytest.mark.parametrize("suffix", [".safetensors", ".sft", ".SafeTensors"])
@pytest.mark.parametrize("older", [False, True], ids=["archive", "older format"])
@pytest.mark.parametrize("read", [read_file, read_shapes])
def test_a_file_of_torch_save_named_safetensors_is_to_be_renamed(tmp_path, suffix, older, read):
    path = tmp_path / f"adapter{suffix}"
    torch.save(nested(TENSORS), path, _use_new_zipfile_serialization=not older)
    with pytest.raises(AdapterFileError) as caught:
        read(path)
    message = str(caught.value)
    assert f"{path.name} was expected to be of the format that its name says; what it holds is torch.save's" in message
    assert "Rename it to end in .bin, refresh the page (R) and choose it again" in message
    assert DOWNLOAD_AGAIN not in message
    renamed = path.rename(path.with_suffix(".bin"))
    assert read(renamed).keys() == TENSORS.keys()


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".pth", ""])
def test_a_safetensors_file_under_another_name_is_read_as_what_it_is(tmp_path, suffix):
    path = tmp_path / f"adapter{suffix}"
    save_file(TENSORS, path)
    assert read_file(path).keys() == read_shapes(path).keys() == TENSORS.keys()
    assert wrong_suffix(path) == (
        "what it holds is of the format safetensors. Rename it to end in .safetensors, refresh the page (R) and choose "
        "it again."
    )


def other_archive(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("adapter.safetensors", b"x")


OTHER_CONTENT = {
    "a zip archive of other files, to be unpacked": other_archive,
    "a gzip archive, to be unpacked": lambda path: path.write_bytes(gzip.compress(b"x" * 99)),
    "a GGUF file": lambda path: path.write_bytes(b"GGUF" + bytes(99)),
    "a web page": lambda path: path.write_bytes(b"<!DOCTYPE html>\n<html>"),
    "a Git LFS pointer": lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    "a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
}


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("what", OTHER_CONTENT)
def test_content_that_is_no_tensors_is_called_what_it_is(tmp_path, suffix, what):
    path = tmp_path / f"adapter{suffix}"
    OTHER_CONTENT[what](path)
    message = refusal_of_file(path)
    assert f"{path.name} was expected to be a file of tensors" in message
    assert f"It is {what}" in message
    assert DOWNLOAD_AGAIN in message


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_file_that_is_cut_short_is_refused_with_its_size(tmp_path, suffix, part):
    path = save_adapter(TENSORS, tmp_path / f"adapter{suffix}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    message = refusal_of_file(path)

    assert f"{path.name} was expected to be a file of tensors" in message
    assert f"{path.stat().st_size:,} bytes" in message
    assert "cannot be read as one (" in message if suffix == ".safetensors" else "cannot be read as one. " in message
    assert "cut short" in message
    assert DOWNLOAD_AGAIN in message


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), 3], ids=["a list", "a tensor", "a number"])
def test_a_pickle_of_anything_but_a_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "adapter.bin")
    message = refusal_of_file(tmp_path / "adapter.bin")
    assert "expected to be a file of tensors" in message
    assert f"it holds no dict of tensors but {type(content).__name__}. It is damaged" in message


class CreatesAFile:
    """Unpickled without care, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


WRITERS = {
    "torch's zip file": lambda content, path: torch.save(content, path),
    "torch's old pickle": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "a bare pickle": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
@pytest.mark.parametrize("writer", WRITERS)
def test_code_in_a_pickle_is_not_run(tmp_path, writer, suffix):
    victim, path = tmp_path / "created", tmp_path / f"adapter{suffix}"
    WRITERS[writer]({"image_proj": {"latents": CreatesAFile(victim)}}, path)

    message = refusal_of_file(path)

    assert not victim.exists()
    assert "Nothing in it was run." in message
    assert f"{path.name} was expected" in message


def test_code_in_a_published_layout_is_named(tmp_path):
    torch.save({"image_proj": {"latents": CreatesAFile(tmp_path / "created")}}, tmp_path / "adapter.bin")
    message = refusal_of_file(tmp_path / "adapter.bin")

    assert "adapter.bin was expected to hold tensors only; it also asks Python to run io.open" in message
    assert "Get the file again from a source you trust" in message


def test_code_is_not_run_where_torch_is_told_to_run_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"image_proj": {"latents": CreatesAFile(tmp_path / "created")}}, tmp_path / "adapter.bin")
    assert "Nothing in it was run." in refusal_of_file(tmp_path / "adapter.bin")
    assert not (tmp_path / "created").exists()


def test_the_code_in_these_pickles_would_create_a_file_if_it_were_run(tmp_path):
    victim = tmp_path / "created"
    pickle.loads(pickle.dumps(CreatesAFile(victim), protocol=2)).close()
    assert victim.exists()
