"""Getting a published file from a real server that misbehaves: whole, checked and under its name, or not at all."""

import re
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from ipadapter_instruct.models.families import SD15
from ipadapter_instruct.models.files.download import Problem, get, in_words, plan
from ipadapter_instruct.models.files.published_files import ADAPTERS, CLIP_L_FILE, IMAGE_ENCODER, PublishedFile
from support.servers.downloads import CONTENT, FILE, OTHER, URL, fails, fetch, found


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
    """Older versions of huggingface_hub do so."""

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
    """Versions before 1.1 are such."""
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
