"""Getting a published file from a real server that misbehaves: whole, checked and under its name, or not at all."""

import os
import re

import pytest
from filelock import FileLock
from ipadapter_instruct.models.families import SD15
from ipadapter_instruct.models.files import download as download_module
from ipadapter_instruct.models.files.download import get, in_words, lacking_space, plan
from ipadapter_instruct.models.files.published_files import ADAPTERS, CLIP_L_FILE, IMAGE_ENCODER, PublishedFile
from ipadapter_instruct.models.files.web import DownloadError, PassingError
from support.servers.file_server import Served, serving

CONTENT = os.urandom(300_000)
OTHER = os.urandom(300_000)
NOBODY = "http://127.0.0.1:9/adapter.bin"
FILE = PublishedFile("adapter.bin", "ipadapter", "unused")


@pytest.fixture(autouse=True)
def no_waiting_and_no_proxies(monkeypatch):
    monkeypatch.setattr(download_module, "WAITS", (0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def served():
    return Served(CONTENT)


@pytest.fixture
def url(served):
    with serving(served) as address:
        yield f"{address}/adapter.bin"


def fetch(url, models, file=FILE, tell=lambda received: None):
    get(plan(file, url, models), tell)


def fails(*args, error=DownloadError, action=fetch, **kwargs) -> str:
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


def found(models) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in models.rglob("*") if path.is_file()}


def break_off(url, models, served, after=100_000):
    """As a process that is killed: what was received stays, the file is not there."""
    served.cuts = [after, 0, 0]
    fails(url, models, error=PassingError)
    assert [name.startswith("adapter.bin.") and name.endswith(".part") for name in found(models)] == [True]
    served.forget()


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_comes_whole_under_its_name_with_nothing_beside_it(url, models, served, linked):
    served.linked = linked
    told = []
    fetch(url, models, tell=told.append)

    assert found(models) == {"adapter.bin": CONTENT}
    assert served.sent == [len(CONTENT)]
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


@pytest.mark.parametrize("linked", [True, False])
def test_broken_connections_are_taken_up_where_they_broke(url, models, served, linked):
    served.linked, served.cuts = linked, [100_000, 50_000, 0, 7]
    fetch(url, models)

    assert found(models) == {"adapter.bin": CONTENT}
    assert served.sent == [100_000, 50_000, 0, 7, 149_993]


def test_a_connection_that_brings_nothing_is_given_up_and_what_came_is_kept(url, models, served):
    served.cuts = [1000, 0, 0, 0]
    message = fails(url, models, error=PassingError)

    assert f"{url.split('/')[2]} broke after 1,000 of 300,000 bytes (the server closed it)" in message
    assert "Run the same command again" in message
    assert list(found(models).values()) == [CONTENT[:1000]]


def test_a_broken_download_goes_on_in_a_later_run_with_no_byte_fetched_twice(url, models, served):
    break_off(url, models, served)
    fetch(url, models)

    assert found(models) == {"adapter.bin": CONTENT}
    assert served.asked == ["bytes=0-0", "bytes=100000-"]
    assert served.sent == [200_000]


def test_a_server_that_does_not_know_range_sends_all_again(url, models, served):
    break_off(url, models, served)
    served.knows_range = False
    fetch(url, models)
    assert served.sent[-1] == 300_000
    assert found(models) == {"adapter.bin": CONTENT}


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_changed_since_is_fetched_anew(url, models, served, linked):
    served.linked = linked
    break_off(url, models, served)
    served.content, served.tag = OTHER, '"second"'
    fetch(url, models)

    assert found(models) == {"adapter.bin": OTHER}
    assert served.sent == [300_000]


def test_a_file_of_which_nothing_tells_whether_it_changed_is_fetched_anew(url, models, served):
    served.tag = ""
    break_off(url, models, served)
    served.content = OTHER
    fetch(url, models)
    assert found(models) == {"adapter.bin": OTHER}


def test_a_file_that_changes_between_two_connections_is_not_mixed(url, models, served):
    planned = plan(FILE, url, models)
    served.tag = '"second"'
    assert "changed on the server" in fails(planned, print, action=get)
    assert "adapter.bin" not in found(models)


def test_a_download_whose_last_byte_came_needs_no_more_than_its_check(url, models, served):
    planned = plan(FILE, url, models)
    planned.part.parent.mkdir()
    planned.part.write_bytes(CONTENT)
    get(planned, print)
    assert found(models) == {"adapter.bin": CONTENT}
    assert served.sent == []


@pytest.mark.parametrize(
    ("known", "stated"), [("0" * 64, ""), ("", "0" * 64)], ids=["known to the pack", "stated by the server"]
)
def test_a_file_of_another_sha256_is_removed(url, models, served, known, stated):
    if stated:
        served.linked, served.linked_sha256 = True, stated
    message = fails(url, models, PublishedFile("adapter.bin", "ipadapter", "", sha256=known))

    assert f"expected to have sha256 {'0' * 64}" in message
    assert served.sha256 in message
    assert found(models) == {}


@pytest.mark.parametrize("linked", [True, False])
def test_a_part_longer_than_the_file_is_removed(url, models, served, linked):
    served.linked = linked
    planned = plan(FILE, url, models)
    planned.part.parent.mkdir()
    planned.part.write_bytes(CONTENT + b"x")
    assert "expected to have size 300000; what was received has 300001" in fails(planned, print, action=get)
    assert found(models) == {}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"size": 5}, "expected to have size 5; the server says 300000"),
        ({"sha256": "1" * 64}, f"expected to have sha256 {'1' * 64}; the server says "),
    ],
)
def test_a_server_that_says_it_has_another_file_is_not_asked_for_it(url, models, served, facts, message):
    served.linked = True
    said = fails(url, models, PublishedFile("adapter.bin", "ipadapter", "", **facts))
    assert f"{url} was {message}" in said
    assert "HF_ENDPOINT" in said
    assert served.sent == []


def test_a_server_that_sends_less_than_it_says_is_given_up(url, models, served):
    served.stated_size = 300_005
    assert "broke after 300,000 of 300,005" in fails(url, models, error=PassingError)
    assert "adapter.bin" not in found(models)


def test_a_server_that_gets_busy_meanwhile_is_asked_again(url, models, served):
    planned = plan(FILE, url, models)
    served.status = 503
    assert "too busy" in fails(planned, print, action=get, error=PassingError)
    assert served.asked == ["bytes=0-0", "bytes=0-", "bytes=0-"]


def test_a_full_disk_is_said_and_what_came_is_kept(url, models):
    planned = plan(FILE, url, models)
    planned.part.parent.mkdir()
    planned.part.symlink_to("/dev/full")
    message = fails(planned, print, action=get)

    assert "is full. Free 300 kB and run the same command again" in message
    assert planned.part.is_symlink()
    assert not planned.target.exists()


def test_the_folders_above_a_file_are_made(url, models):
    fetch(url, models, PublishedFile("adapter.bin", "new/folder", ""))
    assert (models / "new" / "folder" / "adapter.bin").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_to_is_said(url, models):
    (models / "ipadapter").write_text("no folder")
    message = fails(url, models)
    assert f"{models / 'ipadapter'} cannot be written to (File exists)" in message
    assert "--models" in message


def test_too_little_space_is_seen_before_anything_is_fetched(url, models, served):
    plans = [plan(PublishedFile(name, "new/folder", ""), url, models) for name in "ab"]
    assert lacking_space(plans) == []
    served.stated_size = 10**15
    (message,) = lacking_space([plan(PublishedFile(name, "new/folder", ""), url, models) for name in "ab"])
    assert f"2,000,000.00 GB are still to come to {models}" in message
    assert re.search(r"Free 1,999,\d+\.\d\d GB, or name another models folder", message)
    assert len(lacking_space([plan(PublishedFile("a", "new/folder", ""), url, models)])) == 1
    assert served.sent == []


def test_two_downloads_of_one_file_do_not_run_together(url, models):
    planned = plan(FILE, url, models)
    planned.part.parent.mkdir()
    with FileLock(f"{planned.part}.lock"):
        assert "Another download of adapter.bin is running" in fails(planned, print, action=get)
    get(planned, print)
    assert found(models) == {"adapter.bin": CONTENT}


def test_a_file_that_appears_meanwhile_is_left_as_it_is(url, models):
    planned = plan(FILE, url, models)
    message = fails(planned, lambda received: planned.target.write_bytes(b"mine"), action=get)
    assert "appeared during the download" in message
    assert found(models) == {"adapter.bin": b"mine", planned.part.name: CONTENT}


@pytest.fixture
def present(models):
    path = models / "ipadapter" / "adapter.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_a_right_file_that_the_pack_knows_is_there_without_asking_anybody(models, present, served):
    file = PublishedFile("adapter.bin", "ipadapter", "", size=len(CONTENT), sha256=served.sha256)
    assert plan(file, NOBODY, models) is None


@pytest.mark.parametrize("facts", [{"size": 5, "sha256": "0" * 64}, {"sha256": "0" * 64}], ids=["size", "sha256"])
def test_a_wrong_file_that_is_there_is_said_and_left(url, models, present, facts):
    message = fails(PublishedFile("adapter.bin", "ipadapter", "", **facts), url, models, action=plan)
    assert f"{present} is there already, and is not the published file: its {next(iter(facts))} was" in message
    assert "keep it; else move it away" in message
    assert found(models) == {"adapter.bin": CONTENT}


def test_a_file_of_which_the_pack_knows_nothing_is_compared_with_the_server_if_there_is_one(
    url, models, present, served
):
    served.linked = True
    assert plan(FILE, url, models) is None
    assert plan(FILE, NOBODY, models) is None
    present.write_bytes(CONTENT[:-1])
    assert "its size was expected to be 300000, and is 299999" in fails(FILE, url, models, action=plan)
    present.write_bytes(OTHER)
    assert "its sha256 was expected" in fails(FILE, url, models, action=plan)


def test_every_family_has_its_file_and_a_mirror_has_the_same_paths():
    adapter = ADAPTERS["sd15"]
    assert (adapter.name, adapter.folder, adapter.sha256) == (SD15.published_file, "ipadapter", SD15.sha256)
    assert adapter.url_at("") == SD15.url
    assert IMAGE_ENCODER.url_at("https://mirror.org/hf/").startswith("https://mirror.org/hf/h94/IP-Adapter/resolve/")
    files = (*ADAPTERS.values(), IMAGE_ENCODER, CLIP_L_FILE)
    assert [file.name for file in files if file.sha256 and len(file.sha256) != 64] == []
    assert {file.folder for file in files} == {"ipadapter", "clip_vision", "text_encoders"}


@pytest.mark.parametrize(
    ("size", "words"),
    [(2_528_373_448, "2.53 GB"), (10**9, "1.00 GB"), (351_900_000, "352 MB"), (10**6, "1 MB"), (900, "1 kB")],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert in_words(size) == words
