"""Embeds as files: what is written is read back bit for bit, and anything else is refused."""

import contextlib
import json
import os
import struct
import sys
from dataclasses import dataclass, replace

import pytest
import safetensors
import torch
from ipadapter_instruct.models import families
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.encoding.stored_embeds import StoredEmbeds, check_adapter, read_embeds, write_embeds
from ipadapter_instruct.models.families import Family
from ipadapter_instruct.models.guidance.branches import Branches
from safetensors.torch import load_file, save_file
from support.small_files import adapter_tensors, save_adapter


def embeds(latents: int = 1, tokens: int = 16, width: int = 768, weights: bool = False, **changes) -> StoredEmbeds:
    made = torch.Generator().manual_seed(1)
    branches = Branches(*(torch.randn(latents, tokens, width, generator=made) for _ in range(4)))
    token_weights = torch.rand(latents, tokens, generator=made) if weights else None
    values = {"instruction": "use the style", "family": "sd15", "adapter": "sd15.bin", "fingerprint": "ab12"}
    return StoredEmbeds(**{**values, **changes}, image_tokens=branches, token_weights=token_weights)


def assert_same(found: StoredEmbeds, expected: StoredEmbeds) -> None:
    for word in ("instruction", "family", "adapter", "fingerprint"):
        assert getattr(found, word) == getattr(expected, word)
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def refusal(call) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


# Writing and reading


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("latents", [1, 3])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, latents, weights):
    stored = embeds(latents, weights=weights, instruction='use the "colour", \u8272, \n and the pose')
    write_embeds(stored, tmp_path / "a.instruct.safetensors")
    assert_same(read_embeds(tmp_path / "a.instruct.safetensors"), stored)
    assert os.listdir(tmp_path) == ["a.instruct.safetensors"]


def test_branches_that_share_memory_or_lie_across_it_are_written_too(tmp_path):
    shared, across = torch.randn(1, 16, 768), torch.randn(1, 768, 16).transpose(1, 2)
    tokens = Branches(shared, shared, across, across[:1])
    stored = replace(embeds(), image_tokens=tokens, token_weights=torch.rand(1).expand(1, 16))
    write_embeds(stored, tmp_path / "a")
    assert_same(read_embeds(tmp_path / "a"), stored)


def test_the_file_says_what_it_is_to_whoever_opens_it(tmp_path):
    write_embeds(embeds(), tmp_path / "a")
    with safetensors.safe_open(tmp_path / "a", framework="pt") as file:
        said = file.metadata()
    assert said == {
        "format": "pt",
        "pack": "ComfyUI-IPAdapter-Instruct",
        "version": "1",
        "instruction": "use the style",
        "family": "sd15",
        "adapter": "sd15.bin",
        "fingerprint": "ab12",
    }


def test_a_file_that_is_there_is_never_written_over(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"precious")
    message = refusal(lambda: write_embeds(embeds(), target))
    assert f"{target} is there already" in message
    assert "Choose another name" in message
    assert target.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a"]


@contextlib.contextmanager
def room_for(size: int):
    """The system writes no more than `size` bytes into any file, as where a disk is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_nothing_is_left_and_the_message_says_how_much_is_needed(tmp_path):
    with room_for(100_000):
        message = refusal(lambda: write_embeds(embeds(), tmp_path / "a"))
    assert f"The embeds were to be saved in {tmp_path}; " in message
    assert "File too large" in message
    assert "0.2 MB are needed" in message
    assert "Make room" in message
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a_file/a", "nowhere/a", "a" * 300])
def test_a_place_that_cannot_be_written_to_is_refused_in_words(tmp_path, name):
    (tmp_path / "a_file").write_bytes(b"")
    message = refusal(lambda: write_embeds(embeds(), tmp_path / name))
    assert "the system refused" in message
    assert "choose another filename_prefix" in message
    assert os.listdir(tmp_path) == ["a_file"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused_in_words(tmp_path):
    tmp_path.chmod(0o555)
    assert "Permission denied" in refusal(lambda: write_embeds(embeds(), tmp_path / "a"))


# Files that are something else


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.instruct.safetensors"
    write_embeds(embeds(weights=True), path)
    return path


def rewritten(path, tensors=None, metadata=None):
    """The file with other tensors or metadata; None takes one away."""
    with safetensors.safe_open(path, framework="pt") as file:
        said = {**file.metadata(), **(metadata or {})}
    held = {**load_file(path), **(tensors or {})}
    save_file({k: t for k, t in held.items() if t is not None}, path, {k: s for k, s in said.items() if s is not None})
    return path


@pytest.mark.parametrize("size", [0, 5, 100, 100_000])
def test_a_file_that_is_cut_short_is_refused(written, size):
    written.write_bytes(written.read_bytes()[:size])
    message = refusal(lambda: read_embeds(written))
    assert "a.instruct.safetensors was expected to be embeds saved by Save Instruct Embeds" in message
    assert "cut short, damaged or gone" in message


def test_a_file_that_is_gone_is_refused(tmp_path):
    assert "gone" in refusal(lambda: read_embeds(tmp_path / "a"))


def test_another_kind_of_safetensors_file_is_refused(tmp_path):
    adapter = save_adapter(adapter_tensors(), tmp_path / "b.safetensors")
    assert "another kind of file" in refusal(lambda: read_embeds(adapter))
    convert(adapter, tmp_path / "half.safetensors")
    assert "another kind of file" in refusal(lambda: read_embeds(tmp_path / "half.safetensors"))


def test_a_header_that_lies_about_sizes_is_refused(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    assert "cannot be read" in refusal(lambda: read_embeds(tmp_path / "a"))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"version": "2"}, "format '2', which a later version of this pack writes. Update the pack."),
        ({"version": None}, "another kind of file"),
        ({"pack": "another"}, "another kind of file"),
        ({"fingerprint": None, "family": None}, "expected to say its family, fingerprint, and does not"),
        ({"instruction": None}, "expected to say its instruction"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(written, metadata, said):
    assert said in refusal(lambda: read_embeds(rewritten(written, metadata=metadata)))


FULL, UNCOND = "image_tokens.full", "image_tokens.uncond"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({UNCOND: None}, "it holds image_tokens.everything, image_tokens.full, image_tokens.image_only, token_weights"),
        ({"more": torch.zeros(1)}, "more"),
        ({FULL: torch.zeros(1, 16, 700)}, "of one shape, [latents, tokens, width]; they are [1, 16, 700] and"),
        ({FULL: torch.zeros(2, 16, 768)}, "they are [1, 16, 768] and [2, 16, 768]"),
        ({"token_weights": torch.ones(1, 15)}, "expected to be [1, 16], as the image tokens are [1, 16, 768]"),
        ({FULL: torch.full((1, 16, 768), float("nan"))}, "image_tokens.full"),
        ({UNCOND: torch.full((1, 16, 768), float("inf"))}, "NaN or infinite"),
        ({FULL: torch.zeros(1, 16, 768, dtype=torch.int8)}, "torch.int8"),
        ({"token_weights": torch.full((1, 16), float("nan"))}, "token_weights"),
    ],
)
def test_tensors_that_cannot_be_are_refused(written, tensors, said):
    message = refusal(lambda: read_embeds(rewritten(written, tensors)))
    assert "a.instruct.safetensors" in message
    assert said in message
    assert "Save them again" in message


@pytest.mark.parametrize("shape", [(16, 768), (1, 0, 768), (1, 1, 16, 768)])
def test_tokens_with_other_axes_are_refused(written, shape):
    tokens = {f"image_tokens.{b}": torch.zeros(shape) for b in ("full", "everything", "image_only", "uncond")}
    assert f"they are {list(shape)}" in refusal(lambda: read_embeds(rewritten(written, tokens)))


def test_nothing_is_read_of_a_later_format_but_what_it_says(written):
    path = rewritten(written, {"unknown": torch.zeros(3)}, {"version": "9"})
    assert "Update the pack" in refusal(lambda: read_embeds(path))


# The adapter they belong to


@dataclass(frozen=True)
class Loaded:
    name: str = "half.safetensors"
    family: Family = families.SD15
    fingerprint: str = "ab12"
    context_width: int = 768


def test_the_adapter_that_made_them_fits_whatever_its_file_is_called():
    check_adapter("a", embeds(), Loaded())


@pytest.mark.parametrize("family", ["sd15", "a family of later"])
def test_another_adapter_is_refused_with_both_names_and_what_to_do(family):
    other = Loaded("sdxl.bin", families.SDXL, "cd34", 2048)
    message = refusal(lambda: check_adapter("a.instruct.safetensors", embeds(family=family), other))
    title = {"sd15": "SD1.5"}.get(family, family)
    assert f"The embeds in a.instruct.safetensors were made with sd15.bin (for {title})" in message
    assert "the connected adapter is sdxl.bin (for SDXL), which is another one" in message
    assert "Load sd15.bin or a conversion of it" in message


def test_tokens_of_another_width_than_the_adapters_are_refused():
    message = refusal(lambda: check_adapter("a", embeds(width=700), Loaded()))
    assert "expected to be 768 wide" in message
    assert "700 wide" in message


def test_embeds_take_their_words_from_the_adapter_that_made_them():
    made = embeds(weights=True)
    stored = StoredEmbeds.of(Loaded(), "use the pose", made.image_tokens, made.token_weights)
    words = (stored.instruction, stored.family, stored.adapter, stored.fingerprint)
    assert words == ("use the pose", "sd15", "half.safetensors", "ab12")
    assert stored.tensors.keys() == made.tensors.keys()
