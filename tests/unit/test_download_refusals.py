"""A download that cannot be, or need not be: the message says why, and what is in place stays as it is."""

import errno
import re
import socket

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub import constants
from ipadapter_instruct.models.files.download import Problem, get, lacking_space, plan
from ipadapter_instruct.models.files.published_files import PublishedFile
from support.servers.downloads import CONTENT, FILE, OTHER, URL, fails, fetch, found
from support.servers.file_server import ask_here


@pytest.fixture
def nobody(monkeypatch):
    """The address of a port on which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    ask_here(monkeypatch, f"http://{host}")
    return host


@pytest.mark.parametrize(
    ("behaviour", "problem", "message"),
    [
        ({"status": 404}, Problem.MISSING, r"^HOST has no http://HOST/owner/.*/adapter\.bin \(404\)\.$"),
        ({"status": 401}, Problem.FORBIDDEN, r"^HOST does not let everybody have http://HOST/.*\(401\)\.$"),
        ({"status": 403}, Problem.FORBIDDEN, r"\(403\)\.$"),
        ({"status": 503}, Problem.BUSY, r"^HOST is too busy to send http://HOST/.* \(503\)\.$"),
        ({"status": 410}, Problem.NOT_A_FILE, r"^HOST answers 410 for http://HOST/"),
        ({"commit": "", "content_type": "text/html"}, Problem.NOT_A_FILE, r"^A file was expected from http://HOST/"),
        ({"tag": ""}, Problem.NOT_A_FILE, r"^A file was expected from http://HOST/"),
        ({"content": b""}, Problem.NOT_A_FILE, r"^A file was expected from http://HOST/"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, dict) else "",
)
def test_a_refusal_says_who_and_what(models, served, behaviour, problem, message):
    vars(served).update(behaviour)
    said = re.sub(r"127\.0\.0\.1:\d+", "HOST", fails(problem, plan, FILE, models))
    assert re.search(message, said)


def test_a_server_that_is_not_there_is_named(models, nobody):
    message = fails(Problem.UNREACHABLE, plan, FILE, models)
    assert message.startswith(f"{nobody} cannot be reached (")
    assert "refused" in message


def test_hugging_faces_own_switch_for_working_offline_is_heeded(models, served, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fails(Problem.OFFLINE, plan, FILE, models)
    assert served.asked == []


def test_a_full_disk_is_said(models, served, monkeypatch):
    planned = plan(FILE, models)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    message = fails(Problem.NO_SPACE, get, planned)
    assert message == f"{models / 'ipadapter'} cannot be written to (the disk is full)."
    assert found(models) == {}


def test_the_folders_above_a_file_are_made(models, served):
    fetch(models, PublishedFile("mine.bin", "new/folder", URL))
    assert (models / "new" / "folder" / "mine.bin").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_to_is_said(models, served):
    (models / "ipadapter").write_text("no folder")
    message = fails(Problem.NOT_WRITABLE, fetch, models)
    assert message == f"{models / 'ipadapter'} cannot be written to (File exists)."


def test_too_little_space_is_said_once_for_each_disk(models):
    needs = [(models / "new" / "folder" / name, 10**15) for name in "ab"]
    assert lacking_space((path, 5) for path, _ in needs) == []
    (error,) = lacking_space(needs)
    assert error.problem is Problem.NO_SPACE
    assert str(error).startswith(f"Not enough disk space: 2,000,000.00 GB are still to come to {models}, where ")


def test_two_downloads_of_one_file_do_not_run_together(models, served):
    planned = plan(FILE, models)
    planned.target.parent.mkdir()
    with FileLock(planned.target.with_name(".mine.bin.download.lock")):
        assert "Another download of mine.bin is running" in fails(Problem.RUNNING, get, planned)
    get(planned)
    assert found(models) == {"mine.bin": CONTENT}


def test_a_file_that_appears_meanwhile_is_left_as_it_is(models, served):
    planned = plan(FILE, models)
    message = fails(Problem.OTHER_IN_PLACE, get, planned, lambda received: planned.target.write_bytes(b"mine"))
    assert "appeared during the download" in message
    assert found(models) == {"mine.bin": b"mine"}


@pytest.fixture
def present(models):
    path = models / "ipadapter" / "mine.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_a_right_file_that_the_pack_knows_is_there_without_asking_anybody(models, present, served):
    file = PublishedFile("mine.bin", "ipadapter", URL, size=len(CONTENT), sha256=served.sha256)
    assert plan(file, models) is None
    assert served.asked == []


@pytest.mark.parametrize("facts", [{"size": 5, "sha256": "0" * 64}, {"sha256": "0" * 64}], ids=["size", "sha256"])
def test_a_wrong_file_that_is_there_is_said_and_left(models, present, served, facts):
    message = fails(Problem.OTHER_IN_PLACE, plan, PublishedFile("mine.bin", "ipadapter", URL, **facts), models)
    assert f"{present} is there already, and is not the published file: its {next(iter(facts))} was" in message
    assert found(models) == {"mine.bin": CONTENT}


def test_a_file_of_which_the_pack_knows_nothing_is_compared_with_the_server(models, present, served):
    served.linked = True
    assert plan(FILE, models) is None
    present.write_bytes(CONTENT[:-1])
    message = fails(Problem.OTHER_IN_PLACE, plan, FILE, models)
    assert "its size was expected to be 300000, and is 299999" in message
    present.write_bytes(OTHER)
    assert "its sha256 was expected" in fails(Problem.OTHER_IN_PLACE, plan, FILE, models)


def test_a_file_of_which_nobody_knows_anything_is_left_alone(models, present, nobody):
    assert plan(FILE, models) is None
