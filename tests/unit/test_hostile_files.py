"""Files that lead a reader astray without any code in them: each is refused, quickly and in words."""

import io
import os
import tarfile
import zipfile

import pytest
import torch
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.weights import draw
from fuzzing import valid_files
from ipadapter_instruct.models.adapter.checkpoint import build, look_at, read_checkpoint, recognise
from ipadapter_instruct.models.encoding.open_clip import files as open_clip_files
from ipadapter_instruct.models.encoding.stored_embeds import read_embeds
from ipadapter_instruct.models.files import pickled_files, tensor_files
from ipadapter_instruct.models.files.encoder_files import encoder_sizes
from ipadapter_instruct.models.files.tensor_files import AdapterFileError, read_file, read_shapes
from ipadapter_instruct.models.reference.faces import read_faces
from safetensors.torch import save, save_file
from support.refusals import refused
from support.small_files import adapter_tensors, save_adapter

HUGE = 999_999_999


def tensors() -> dict[str, torch.Tensor]:
    return draw(plain_adapter(Plain("base", image=16), (8, 16)), seed=0, dtype=torch.float16)


def nested() -> dict[str, dict]:
    parts: dict[str, dict] = {}
    for name, tensor in tensors().items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor
    return parts


def rewritten(path, change, method=zipfile.ZIP_STORED):
    """The archive at the path with its members changed, {name: content} -> the same."""
    with zipfile.ZipFile(path) as archive:
        inside = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in change(inside).items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def saved(tmp_path):
    return save_adapter(tensors(), tmp_path / "adapter.bin")


# What is no file

PLACES = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}
FOUND = ("a pipe or a device", "a folder", "a pipe or a device", "symbolic links", "No such file")


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
@pytest.mark.parametrize(("place", "found"), zip(PLACES, FOUND, strict=True))
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path, place, found):
    path = tmp_path / "adapter.safetensors"
    PLACES[place](path)
    for read in (read_file, read_shapes):
        refused(lambda read=read: read(path), "adapter.safetensors was expected to be a file", found, "choose another")
    refused(lambda: read_faces(path), "adapter.safetensors was expected")
    refused(lambda: read_embeds(path), "adapter.safetensors was expected")
    assert encoder_sizes(path) is None


def test_why_a_safetensors_file_cannot_be_read_is_said(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(save(tensors())[:-1])
    refused(lambda: read_file(tmp_path / "a.safetensors"), "cannot be read as one (", "incomplete", "Download it again")


# Archives and pickles


def test_a_compressed_archive_is_refused_before_it_is_unpacked(saved):
    rewritten(saved, lambda inside: {**inside, "adapter/data/0": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    for read in (read_file, read_shapes):
        refused(lambda read=read: read(saved), "adapter.bin was expected", "compressed archive", "Download it again")


def test_an_archive_with_a_password_is_refused(saved):
    content, entry = bytearray(saved.read_bytes()), b"PK\x01\x02"
    content[content.index(entry) + 8] |= 1
    saved.write_bytes(content)
    refused(lambda: read_file(saved), "compressed archive", "Download it again")


def test_an_archive_that_holds_more_than_it_is_long_is_refused(saved):
    content, entry = bytearray(saved.read_bytes()), b"PK\x01\x02"
    at, length = content.index(entry), len(content)
    content[at + 20 : at + 28] = (2**30).to_bytes(4, "little") * 2
    saved.write_bytes(content)
    refused(lambda: read_file(saved), "an archive that says it holds 1,07", f"in a file of {length:,}. It is damaged")


def test_names_and_shapes_of_a_length_that_no_adapter_has_are_refused(saved):
    long = bytes(pickled_files.LONGEST_PICKLE)
    rewritten(saved, lambda inside: {n: c + long if n.endswith("data.pkl") else c for n, c in inside.items()})
    refused(lambda: read_file(saved), "names and shapes of a length that no adapter has", "Download it again")


def test_numbers_in_another_byte_order_are_refused(saved):
    rewritten(saved, lambda inside: {n: b"big" if n.endswith("byteorder") else c for n, c in inside.items()})
    for read in (read_file, read_shapes):  # torch's reader of shapes would end the process
        refused(lambda read=read: read(saved), "another byte order", "Download it again")


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def repeated():
    inner = {"latents": torch.zeros(1)}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    return inner


def in_itself():
    inner: dict = {"latents": torch.zeros(1)}
    inner["inner"] = inner
    return inner


ASKING = {
    "a byte array": (lambda: Call(bytearray, 2**30), "asks for a byte array, of any size"),
    "a tensor by its size": (lambda: Call(torch.HalfTensor, 2**20), "more numbers than there are in it"),
    "one number as many": (lambda: torch.zeros(1).expand(2**40), "of fewer numbers than that"),
    "one number as two": (lambda: torch.zeros(1).expand(2), "of fewer numbers than that"),
    "no numbers": (lambda: torch.empty(3, device="meta"), "no plain tensor|without its numbers"),
    "a sparse tensor": (lambda: torch.eye(3).to_sparse(), "no plain tensor"),
    "a dict in very many places": (repeated, "one dict in several places"),
    "a dict in itself": (in_itself, "one dict in several places, the last of them 'inner'"),
}


@pytest.mark.parametrize("older", [False, True], ids=["archive", "older format"])
@pytest.mark.parametrize("what", ASKING)
def test_a_pickle_that_asks_for_more_than_it_holds_is_refused(tmp_path, what, older):
    make, found = ASKING[what]
    path = tmp_path / "adapter.bin"
    torch.save({**nested(), "more": make()}, path, _use_new_zipfile_serialization=not older)
    for read in (read_file, read_shapes):
        with pytest.raises(AdapterFileError, match=found) as caught:
            read(path)
        assert "Nothing in it was run. Download it again" in str(caught.value)


def test_the_name_of_code_is_shown_without_control_characters(saved):
    named = b"torch._utils\n_rebuild\x1b[2Jv2"
    rewritten(
        saved, lambda inside: {n: c.replace(b"torch._utils\n_rebuild_tensor_v2", named) for n, c in inside.items()}
    )
    with pytest.raises(AdapterFileError, match="asks Python to run") as caught:
        read_file(saved)
    assert str(caught.value).isprintable()


def test_a_tar_is_refused_before_torch_unpacks_it_into_a_folder(tmp_path):
    with tarfile.open(tmp_path / "adapter.bin", "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    refused(lambda: read_file(tmp_path / "adapter.bin"), "does not begin as one of torch.save", "Download it again")


def test_a_tar_whose_first_name_looks_like_torchs_older_format_is_refused_too(tmp_path):
    name = b"N." * pickled_files.OLDER_PICKLES + pickled_files.MAGIC
    with tarfile.open(tmp_path / "adapter.bin", "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        archive.addfile(tarfile.TarInfo(name.decode("utf-8", "surrogateescape")), io.BytesIO())
    assert (tmp_path / "adapter.bin").read_bytes().startswith(name)
    refused(lambda: read_file(tmp_path / "adapter.bin"), "does not begin as one of torch.save", "Download it again")


def test_a_tensors_name_is_not_taken_for_code(tmp_path):
    torch.save({"GLOBAL os.system": torch.eye(3).to_sparse()}, tmp_path / "adapter.bin")
    refused(lambda: read_file(tmp_path / "adapter.bin"), "holds GLOBAL os.system, which is no plain tensor")


def test_a_file_that_is_gone_meanwhile_has_no_bytes(tmp_path):
    gone = tensor_files._unreadable(tmp_path / "a.bin", EOFError())
    assert "its 0 bytes cannot be read as one. It is cut short" in gone


@pytest.mark.parametrize("older", [False, True], ids=["archive", "older format"])
def test_what_torch_writes_is_still_read(tmp_path, older):
    torch.save(nested(), tmp_path / "adapter.bin", _use_new_zipfile_serialization=not older)
    found = read_file(tmp_path / "adapter.bin")
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items())
    assert build(look_at(tmp_path / "adapter.bin"))


# Names and shapes


@pytest.mark.parametrize("number", [HUGE, "9" * 5000])
@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_a_block_of_a_number_beyond_the_file_is_refused_before_it_is_built(family, number):
    strange = {**adapter_tensors(family), f"image_proj.layers.{number}.0.to_q.weight": torch.zeros(2, 2)}
    refused(lambda: build(recognise(strange)), "tensors are missing: image_proj.layers.", "Download it again")


def test_a_block_of_an_encoder_of_a_number_beyond_the_file_is_refused_before_it_is_built():
    names = ("visual.class_embedding", "visual.conv1.weight", f"visual.transformer.resblocks.{HUGE}.ln_1.weight")
    tower = {**{name: torch.zeros(2) for name in names}, "visual.ln_post.weight": torch.zeros(1280)}
    read = lambda: open_clip_files.find_tower(tower, open_clip_files.IMAGE, "a.bin")  # noqa: E731
    refused(read, "a.bin was expected to hold a whole image tower", "resblocks.0.*", "download it again")


@pytest.mark.parametrize("shape", [(0, 768), (8, 0), (0, 2**60)], ids=["no rows", "no columns", "none of very many"])
def test_a_tensor_without_numbers_is_refused(shape):
    empty = {**tensors(), "ip_adapter.1.to_k_ip.weight": torch.empty_strided(shape, (0, 0))}
    refused(lambda: recognise(empty), "ip_adapter.1.to_k_ip.weight was expected to hold numbers", str(list(shape)))
    empty = {**tensors(), "image_proj.proj.weight": torch.empty_strided(shape, (0, 0))}
    refused(lambda: recognise(empty), "image_proj.proj.weight was expected to hold numbers", str(list(shape)))


def test_matrices_larger_than_torch_can_count_are_refused():
    wide = {"latents": (1, 1, 2**40), "proj_in.weight": (1, 2**40), "proj_out.weight": (768, 1)}
    made = {f"image_proj.{name}": torch.zeros(1).expand(shape) for name, shape in wide.items()}
    refused(lambda: build(recognise({**adapter_tensors(), **made})), "image_proj.* were expected", "Download it again")


@pytest.mark.parametrize("part", ["image_proj", "ip_adapter"])
def test_matrices_that_are_none_are_refused_with_their_part(part):
    flat = {name: tensor[0] if name.startswith(part) else tensor for name, tensor in tensors().items()}
    refused(lambda: build(recognise(flat)), f"{part}.* were expected to be matrices", "Download it again")


def test_sites_that_take_tokens_of_another_width_are_refused():
    other = {n: torch.cat([t, t], 1) if n.startswith("ip_adapter") else t for n, t in tensors().items()}
    refused(lambda: build(recognise(other)), "take image tokens 768 wide", "they take 1536", "Download it again")


def test_a_token_width_of_no_family_is_refused_by_the_packs_own_error():
    with pytest.raises(AdapterFileError, match="known widths"):
        recognise(adapter_tensors(token_width=1024))


def test_names_out_of_a_file_are_shown_short_and_without_control_characters():
    strange = {"\x1b[2J" + "a" * 50_000: torch.zeros(1)}
    with pytest.raises(AdapterFileError) as caught:
        recognise(strange)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_parts_of_an_encoder_that_cannot_be_joined_are_refused(tmp_path):
    prefix = "vision_model.encoder.layers.0.self_attn."
    parts = {f"{prefix}{x}_proj.weight": torch.zeros(2, 2) if x != "k" else torch.zeros(2) for x in "qkv"}
    read = lambda: open_clip_files._joined("a.bin", parts, list(parts))  # noqa: E731
    refused(read, "a.bin was expected to hold", "of one width", "[2, 2] and [2] and [2, 2]", "download it again")


@pytest.mark.parametrize("name", ["embeddings.position_embedding.weight", "encoder.layers.0.mlp.fc1.weight"])
def test_a_tensor_of_an_encoder_that_has_lost_a_dimension_is_refused(name):
    tower = valid_files.tensors("transformers' image tower")
    tower[f"vision_model.{name}"] = torch.zeros(())
    read = lambda: open_clip_files.find_tower(tower, open_clip_files.IMAGE, "a.bin")  # noqa: E731
    refused(read, "a.bin was expected to hold", "in 2 dimensions; it is []", "download it again")


def test_embeds_of_eight_bits_are_read(tmp_path):
    eight = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in valid_files.tensors("embeds").items()}
    (tmp_path / "a").write_bytes(save(eight, valid_files.METADATA["embeds"]))
    assert read_embeds(tmp_path / "a").image_tokens.full.dtype == torch.float8_e4m3fn


def test_an_adapter_with_the_longest_names_there_are_loads(tmp_path):
    save_file({**tensors(), "unet." + "a" * 50_000: torch.zeros(1)}, tmp_path / "a.safetensors")
    assert build(read_checkpoint(tmp_path / "a.safetensors"))
