"""The messages where a file cannot be written. That nothing is left behind is tested with what is written."""

import errno
import os
from pathlib import Path

import pytest
from ipadapter_instruct.models.files.atomic_write import cannot_write, write_whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_system_and_the_size_that_is_needed_are_named():
    message = cannot_write("The embeds", Path("/somewhere"), FULL, 2_540_000)
    assert message.startswith(
        "The embeds were to be saved in /somewhere; the system refused: No space left on device. 2.5 MB are needed."
    )
    assert message.endswith("or choose another filename_prefix. Nothing was left behind.")


def test_a_size_that_is_not_known_is_not_spoken_of():
    assert "needed" not in cannot_write("The embeds", Path("/somewhere"), FULL)


def test_an_error_that_the_system_has_no_words_for_is_shown_itself():
    assert "refused: odd. Make room" in cannot_write("The embeds", Path("/somewhere"), OSError("odd"))


def test_an_error_that_does_not_come_from_the_system_is_shown_itself():
    assert "refused: header too large. Make room" in cannot_write(
        "The weights", Path("/a"), ValueError("header too large")
    )


def test_a_folder_that_is_not_there_is_named_with_what_was_to_be_written(tmp_path):
    with pytest.raises(
        ValueError, match=f"The embeds were to be saved in {tmp_path / 'a'}; the system refused: No such"
    ):
        write_whole(b"first", tmp_path / "a" / "b", "The embeds")


def test_a_file_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    with pytest.raises(ValueError, match=r"a is there already, and is never written over\. Choose another name"):
        write_whole(b"second", tmp_path / "a", "The embeds")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]
