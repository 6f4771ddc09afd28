"""Getting a published file from a real server that misbehaves: whole, checked and under its name, or not at all."""

import errno
import os
import re
import socket
from pathlib import Path

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub import constants
from ipadapter_instruct.models.families import SD15
from ipadapter_instruct.models.files.download import DownloadError, Problem, get, in_words, lacking_space, plan
from ipadapter_instruct.models.files.published_files import ADAPTERS, CLIP_L_FILE, IMAGE_ENCODER, PublishedFile
from support.servers.file_server import Served, ask_here, serving

CONTENT = os.urandom(300_000)
OTHER = os.urandom(300_000)
URL = "https://huggingface.co/owner/name/resolve/main/some/adapter.bin"
FILE = PublishedFile("mine.bin", "ipadapter", URL)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def served(monkeypatch):
    server = Served(CONTENT)
    with serving(server) as address:
        ask_here(monkeypatch, address)
        yield server


@pytest.fixture
def nobody(monkeypatch):
    """The address of a port on which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    ask_here(monkeypatch, f"http://{host}")
    return host


def fetch(models, file=FILE, tell=None):
    get(plan(file, models), tell)


def fails(problem: Problem, action, *arguments) -> str:
    with pytest.raises(DownloadError) as caught:
        action(*arguments)
    assert caught.value.problem is problem
    return str(caught.value)


def found(models) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in models.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tell", [True, False], ids=["watched", "unwatched"])
@pytest.mark.parametrize("way", ["plain", "linked", "moved"])
def test_a_file_comes_whole_under_its_name_with_nothing_beside_it(models, served, way, tell):
    if way != "plain":
        setattr(served, way, True)
    told = []
    fetch(models, tell=told.append if tell else None)

    assert found(models) == {"mine.bin": CONTENT}
    assert served.sent == [len(CONTENT)]
    assert [path.name for path in (models / "ipadapter").iterdir()] == ["mine.bin"]
    if tell:
        assert told == sorted(told)
        assert told[-1] == len(CONTENT)


def test_planning_writes_nothing_and_fetches_no_content(models, served):
    served.linked = True
    planned = plan(FILE, models)
    assert (planned.size, planned.sha256) == (len(CONTENT), served.sha256)
    assert planned.url.endswith("/owner/name/resolve/main/some/adapter.bin")
    assert planned.target == models / "ipadapter" / "mine.bin"
    assert (served.asked, served.sent, list(models.iterdir())) == (["HEAD"], [], [])


@pytest.mark.parametrize("linked", [True, False])
def test_broken_connections_are_taken_up(models, served, linked):
    served.linked, served.cuts = linked, [100_000, 50_000, 0, 7]
    fetch(models)

    assert found(models) == {"mine.bin": CONTENT}
    assert sum(served.sent) < 2 * len(CONTENT)
    assert served.sent[-1] < len(CONTENT)


def test_a_connection_that_brings_nothing_is_given_up_and_leaves_nothing(models, served):
    served.cuts = [1000, *[0] * 20]
    message = fails(Problem.BROKEN_OFF, fetch, models)
    assert re.match(r"127\.0\.0\.1:\d+ did not send all \(.*\)\.$", message)
    assert list((models / "ipadapter").iterdir()) == []


def test_a_connection_that_is_reset_is_no_file(models, served):
    served.cuts, served.resets = [1000] * 20, True
    fails(Problem.BROKEN_OFF, fetch, models)
    assert found(models) == {}


def test_a_server_that_does_not_know_range_sends_all_again(models, served):
    served.knows_range, served.cuts = False, [100_000]
    fetch(models)
    assert served.sent == [100_000, 300_000]
    assert found(models) == {"mine.bin": CONTENT}


def test_what_huggingface_hub_leaves_to_go_on_with_stays_until_the_file_is_in_place(models, served, monkeypatch):
    """As older versions do."""

    def broken_off(repository, path, local_dir, **_):
        part = Path(local_dir) / ".cache" / "huggingface" / "download" / "x.incomplete"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"a part")
        raise ConnectionError("reset")

    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub, "hf_hub_download", broken_off)
        assert "(reset)" in fails(Problem.BROKEN_OFF, fetch, models)
    assert found(models) == {"x.incomplete": b"a part"}
    fetch(models)
    assert found(models) == {"mine.bin": CONTENT}
    assert [path.name for path in (models / "ipadapter").iterdir()] == ["mine.bin"]


@pytest.mark.parametrize("tell", [None, lambda received: None], ids=["unwatched", "watched"])
def test_a_version_that_cannot_be_watched_downloads_all_the_same(models, served, monkeypatch, tell):
    """As versions before 1.1."""
    download = huggingface_hub.hf_hub_download

    def unwatched(repository, path, local_dir):
        return download(repository, path, local_dir=local_dir)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unwatched)
    fetch(models, tell=tell)
    assert found(models) == {"mine.bin": CONTENT}


def test_who_watches_can_stop_it_by_raising(models, served):
    class StopError(Exception):
        pass

    def stop(received):
        raise StopError

    with pytest.raises(StopError):
        fetch(models, tell=stop)
    assert list((models / "ipadapter").iterdir()) == []


@pytest.mark.parametrize("before", [True, False])
def test_only_while_it_is_watched_a_file_comes_by_plain_http(models, served, monkeypatch, before):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", before)
    seen = []
    fetch(models, tell=lambda received: seen.append(constants.HF_HUB_DISABLE_XET))
    assert set(seen) == {True}
    assert constants.HF_HUB_DISABLE_XET is before


def test_a_file_that_changes_meanwhile_is_not_put_in_place(models, served):
    served.linked = True
    planned = plan(FILE, models)
    served.content = OTHER
    assert "sha256" in fails(Problem.ALTERED, get, planned)
    assert found(models) == {}


@pytest.mark.parametrize("by", ["pack", "server"])
def test_a_file_of_another_sha256_is_removed(models, served, by):
    known = "0" * 64 if by == "pack" else ""
    served.linked, served.linked_sha256 = by == "server", "0" * 64
    message = fails(Problem.ALTERED, fetch, models, PublishedFile("mine.bin", "ipadapter", URL, sha256=known))

    assert f"mine.bin was expected to have sha256 {'0' * 64}; what was received has {served.sha256}" in message
    assert list((models / "ipadapter").iterdir()) == []


@pytest.mark.parametrize("facts", [{"size": 5}, {"sha256": "1" * 64}], ids=["size", "sha256"])
def test_a_server_that_says_it_has_another_file_is_not_asked_for_it(models, served, facts):
    served.linked = True
    message = fails(Problem.OTHER_ON_SERVER, plan, PublishedFile("mine.bin", "ipadapter", URL, **facts), models)
    ((what, known),) = facts.items()
    assert f"adapter.bin was expected to have {what} {known}; the server says " in message
    assert served.sent == []


def test_a_server_that_sends_less_than_it_says_is_given_up(models, served):
    served.stated_size = 300_005
    fails(Problem.BROKEN_OFF, fetch, models)
    assert found(models) == {}


def test_a_server_that_gets_busy_meanwhile_is_asked_again_and_said(models, served):
    planned = plan(FILE, models)
    served.status = 503
    assert "503" in fails(Problem.BROKEN_OFF, get, planned)
    assert len(served.asked) > 2


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


def test_every_family_has_its_file_in_a_repository_at_hugging_face():
    adapter = ADAPTERS["sd15"]
    assert (adapter.name, adapter.folder, adapter.sha256) == (SD15.published_file, "ipadapter", SD15.sha256)
    assert (adapter.repository, adapter.path) == ("CiaraRowles/IP-Adapter-Instruct", SD15.published_file)
    assert (IMAGE_ENCODER.repository, IMAGE_ENCODER.path) == (
        "h94/IP-Adapter",
        "models/image_encoder/model.safetensors",
    )
    files = (*ADAPTERS.values(), IMAGE_ENCODER, CLIP_L_FILE)
    urls = [huggingface_hub.hf_hub_url(file.repository, file.path, endpoint="https://huggingface.co") for file in files]
    assert urls == [file.url for file in files]
    assert [file.name for file in files if file.sha256 and len(file.sha256) != 64] == []
    assert {file.folder for file in files} == {"ipadapter", "clip_vision", "text_encoders"}


@pytest.mark.parametrize(
    ("size", "words"),
    [(2_528_373_448, "2.53 GB"), (10**9, "1.00 GB"), (351_900_000, "352 MB"), (10**6, "1 MB"), (900, "1 kB")],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert in_words(size) == words
