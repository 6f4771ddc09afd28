"""Full disks, files without rights or gone, and a process that is killed: real ones, in child processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
import torch
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.encoding.stored_embeds import EMBEDS_SUFFIX, StoredEmbeds, read_embeds, write_embeds
from ipadapter_instruct.models.files.tensor_files import read_file, read_shapes
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.reference.faces import Faces, read_faces, write_faces
from support.child_processes import CANNOT_FORK, as_nobody, files_at_most, killed_while, message_of
from support.small_files import adapter_tensors, save_adapter

pytestmark = pytest.mark.skipif(CANNOT_FORK, reason="no fork here")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def embeds(tokens: int = 16) -> StoredEmbeds:
    branches = Branches(*(torch.full((1, tokens, 768), float(number)) for number in range(4)))
    return StoredEmbeds("use the style", "sd15", "sd15.bin", "ab12", branches)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return save_adapter(adapter_tensors(), tmp_path_factory.mktemp("adapter") / "adapter.safetensors")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of 64 KB."""
    place = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


WRITERS = {
    "embeds": lambda folder, adapter: write_embeds(embeds(), folder / f"new{EMBEDS_SUFFIX}"),
    "faces": lambda folder, adapter: write_faces(Faces(torch.ones(100, 512)), folder / "new.face.safetensors"),
    "a conversion": lambda folder, adapter: convert(adapter, folder / "new.safetensors", overwrite=True),
}


WORDS = {
    "embeds": ("The embeds", "choose another filename_prefix"),
    "faces": ("The faces", "choose another save_as"),
    "a conversion": ("The converted weights", "write it elsewhere with cli.py convert --output"),
}


def says_full(message: str, kind: str, folder: Path) -> None:
    what, elsewhere = WORDS[kind]
    for part in (f"{what} were to be saved in {folder}; ", "MB are needed", "Make room", f"or {elsewhere}."):
        assert part in message, message


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_nothing_and_says_what_is_needed(kind, small_disk, adapter):
    message = message_of(lambda: WRITERS[kind](small_disk, adapter))
    says_full(message, kind, small_disk)
    assert "No space left" in message
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_limit_on_files_does_the_same(kind, tmp_path, adapter):
    says_full(message_of(lambda: WRITERS[kind](tmp_path, adapter), files_at_most(20_000)), kind, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_conversion_that_was_there_stays_whole_when_its_successor_finds_no_room(tmp_path, adapter):
    there = tmp_path / "new.safetensors"
    convert(adapter, there)
    before = there.read_bytes()
    kind = "a conversion"
    says_full(message_of(lambda: WRITERS[kind](tmp_path, adapter), files_at_most(20_000)), kind, tmp_path)
    assert there.read_bytes() == before
    assert os.listdir(tmp_path) == [there.name]


@pytest.mark.skipif(not IS_ROOT, reason="only root may become nobody")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_without_the_right_to_write_says_so(kind, tmp_path, adapter):
    tmp_path.chmod(0o700)
    open_up(adapter.parent)
    adapter.chmod(0o644)
    with reachable(tmp_path, 0o555):
        message = message_of(lambda: WRITERS[kind](tmp_path, adapter), as_nobody)
    assert "Permission denied" in message and "give ComfyUI the right to write there" in message
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root may become nobody")
@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter.bin"])
@pytest.mark.parametrize("read", [read_file, read_shapes])
def test_a_file_without_the_right_to_read_is_not_called_damaged(name, read, tmp_path):
    path = save_adapter(adapter_tensors(), tmp_path / name)
    path.chmod(0)
    with reachable(tmp_path, 0o755):
        message = message_of(lambda: read(path), as_nobody)
    assert f"{name} was expected to be a file of tensors" in message
    assert "Permission denied" in message and "no right to read it" in message


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.bin", "loop.bin", "file/under.bin"])
def test_a_file_that_is_gone_a_loop_of_links_and_a_file_for_a_folder_are_named(name, tmp_path):
    (tmp_path / "loop.bin").symlink_to("loop.bin")
    (tmp_path / "file").write_bytes(b"")
    for read in (read_file, read_shapes):
        with pytest.raises(ValueError, match="the system refuses to read it: .*choose another file"):
            read(tmp_path / name)


@pytest.mark.parametrize("read", [read_embeds, read_faces])
def test_saved_files_that_are_gone_say_so(read, tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("round_", range(2))
def test_a_process_killed_while_saving_leaves_nothing_that_lists_as_embeds(round_, tmp_path):
    target = tmp_path / f"new{EMBEDS_SUFFIX}"
    big = embeds(tokens=4000)
    killed_while(lambda: write_embeds(big, target), lambda: next(tmp_path.iterdir(), None))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(EMBEDS_SUFFIX)]
    write_embeds(embeds(), target)  # and the name is free
    assert read_embeds(target).instruction == "use the style"


def test_a_process_killed_while_converting_leaves_the_old_file_or_the_new_one_whole(tmp_path):
    adapter = save_adapter(adapter_tensors(sites=(1280,) * 8), tmp_path / "source.safetensors")
    target = tmp_path / "new.safetensors"
    convert(adapter, target)
    before = read_file(target)

    def unfinished():
        """safetensors has a name of its own for it, .tmp and more."""
        return next((path for path in tmp_path.iterdir() if path not in (adapter, target)), None)

    killed_while(lambda: convert(adapter, target, "bf16", overwrite=True), unfinished)
    after = read_file(target)
    assert after.keys() == before.keys()
    kept = {tensor.dtype for tensor in after.values()} == {torch.float16}
    assert all(torch.equal(after[name].float(), (before if kept else after)[name].float()) for name in before)
    listed = {path for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".ckpt")}
    assert listed == {adapter, target}


@contextlib.contextmanager
def reachable(folder: Path, mode: int):
    """The folder with this mode, and every one above it open to be passed."""
    open_up(folder.parent)
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(0o755)


def open_up(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if place.owner() == "root" and place != Path("/"):
            place.chmod(place.stat().st_mode | 0o055)
