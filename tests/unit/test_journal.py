"""The journal of a command, and the manifests it works through: what a kill, a full disk and wrong lines do to them."""

from __future__ import annotations

import os
import signal

import pytest
from ipadapter_instruct.commands.servers.jobs import Job, digest, fingerprint, is_as_before
from ipadapter_instruct.commands.servers.journal import Journal, write_file
from ipadapter_instruct.commands.servers.manifest import file_in, read_manifest
from ipadapter_instruct.commands.servers.work import records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "work" / "journal.jsonl"


def test_what_is_done_is_known_again(path):
    with Journal(path) as journal:
        journal.add("a", {"made": 1})
        journal.add("b", None, error="no")
        journal.add("c", None)
        journal.add("c", {"made": 2})
    with Journal(path) as journal:
        assert journal.done == {"a": {"made": 1}, "c": {"made": 2}}
        assert journal.failed == {"b"}


def test_what_a_kill_left_half_written_goes_when_the_command_goes_on(path):
    child = os.fork()
    if not child:
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        write_file(b"half", path.parent / "images" / "a.png")
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(list(path.parent.glob("images/a.png.*"))) == 1
    (path.parent / "mine.part").touch()
    with Journal(path):
        assert sorted(one.name for one in path.parent.rglob("*.part")) == ["mine.part"]


def test_a_kill_at_any_byte_of_a_line_loses_that_line_alone(path):
    with Journal(path) as journal:
        journal.add("a", {"made": 1})
        before = path.stat().st_size
        journal.add("b", {"made": 2})
    whole = path.read_bytes()
    for length in range(before, len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            assert set(journal.done) == {"a"}
            journal.add("c", {"made": 3})
        with Journal(path) as journal:
            assert set(journal.done) == {"a", "c"}


def test_a_damaged_line_is_done_again(path):
    with Journal(path) as journal:
        journal.add("a", {"made": 1})
    path.write_bytes(b"\0\0\0\n[1]\n{}\n" + path.read_bytes())
    with Journal(path) as journal:
        assert set(journal.done) == {"a"}


def test_two_commands_in_one_folder_are_told_apart(path):
    with Journal(path), pytest.raises(ValueError, match="Another command works in"), Journal(path):
        pass
    with Journal(path):
        pass


def test_a_full_disk_leaves_the_journal_as_it_was(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with Journal(path) as journal:
        journal.add("a", {"made": 1})
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.add("b", {"made": 2})
        assert set(journal.done) == {"a"}
    monkeypatch.undo()
    with Journal(path) as journal:
        assert set(journal.done) == {"a"}


def test_a_file_counts_as_before_by_its_time_or_its_content(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before = fingerprint(file, b"one")
    assert is_as_before(file, before)
    os.utime(file, (1, 1))
    assert is_as_before(file, before)
    file.write_bytes(b"two")
    assert not is_as_before(file, before)
    file.unlink()
    assert not is_as_before(file, before)


def test_a_job_whose_file_has_changed_is_not_done(path, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    job = Job("a", "line 1", lambda info, names: {}, {"picture": file})
    with Journal(path) as journal:
        journal.add("a", {"files": {"picture": fingerprint(file, b"one")}, "made": {"target": "x.png"}})
        assert records([job], journal) == {"a": {"target": "x.png"}}
        file.write_bytes(b"other")
        assert records([job], journal) == {}


def test_a_digest_is_of_the_values_and_not_of_their_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_every_wrong_line_of_a_manifest_is_named_at_once(tmp_path):
    def check(fields: dict) -> None:
        if "picture" not in fields:
            raise ValueError("It has no picture.")

    manifest = tmp_path / "rows.jsonl"
    manifest.write_text('{"picture": "a"}\n\n{"x": 1}\n[1]\n{"picture"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"(?s)3 lines.*line 3 of rows\.jsonl: It has.*line 4.*object.*line 5.*JSON"):
        read_manifest(manifest, check)
    manifest.write_text('{"picture": "a"}\n\n{"picture": "b"}\n', encoding="utf-8")
    assert [row.name for row in read_manifest(manifest, check)] == ["line 1 of rows.jsonl", "line 3 of rows.jsonl"]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "in/../../secret.png", "link/secret.png", "", 5, "\0"]
)
def test_a_name_in_a_manifest_cannot_leave_its_folder(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of|name of a file|cannot be read"):
        file_in(folder, name)
    (folder / "in" / "a.png").write_bytes(b"x")
    assert file_in(folder, "in/a.png").read_bytes() == b"x"


def test_ten_thousand_lines_are_read_again(path, tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    print_of_it = fingerprint(file, b"one")
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with Journal(path) as journal:
        for number in range(10_000):
            journal.add(str(number), {"files": {"picture": print_of_it}, "made": {"target": f"{number}.png"}})
    jobs = [Job(str(number), "", lambda info, names: {}, {"picture": file}) for number in range(10_000)]
    with Journal(path) as journal:
        assert len(records(jobs, journal)) == 10_000
