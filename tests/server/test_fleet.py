"""Jobs on two real servers: one that dies, jobs that are refused, files that cannot be read, and a stop."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import pytest
from comfyhost.server import ComfyServer
from ipadapter_instruct.commands.servers.client import Client, ClientError
from ipadapter_instruct.commands.servers.fleet import MOST_ALIKE, Fleet, Patience
from ipadapter_instruct.commands.servers.jobs import SUBFOLDER, Job
from ipadapter_instruct.commands.servers.journal import Journal
from ipadapter_instruct.commands.servers.progress import Progress
from ipadapter_instruct.commands.servers.work import work_through
from PIL import Image
from support.patience import PATIENCE

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def second() -> Iterator[ComfyServer]:
    """A second server, which tests end and start again."""
    with ComfyServer() as running:
        yield running


@pytest.fixture
def started(second: ComfyServer) -> ComfyServer:
    if second.process is None or second.process.poll() is not None:
        second.start()
    return second


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 8), (10, 20, 30)).save(path)
    return path


def job(number: int, picture, kind: str = "ImageInvert", **more) -> Job:
    """A picture turned inside out; no two jobs are the same to the server."""

    def prompt(object_info, names):
        return {
            "1": {"class_type": "LoadImage", "inputs": {"image": names["picture"]}},
            "2": {"class_type": kind, "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"fleet-{number}"}},
        }

    return Job(str(number), f"job {number}", prompt, {"picture": picture}, outputs=["3"], **more)


def inverted(content: bytes, path) -> bool:
    import io

    path.write_bytes(content)
    with Image.open(io.BytesIO(content)) as made:
        return made.convert("RGB").getpixel((0, 0)) == (245, 235, 225)


def test_every_job_is_done_once_on_either_server(server, started, picture, tmp_path):
    with Fleet([server.url, started.url.removeprefix("http://")], print) as fleet:
        results = list(fleet.run([job(number, picture) for number in range(20)]))
    assert sorted(int(result.job.key) for result in results) == list(range(20))
    assert all(set(result.images) == {"3"} and not result.error for result in results)
    assert all(inverted(result.images["3"][0], tmp_path / "made.png") for result in results)
    name = hashlib.sha256(picture.read_bytes()).hexdigest()
    for one in (server, started):
        uploaded = [path for path in (one.base / "input").rglob("*.png") if name.startswith(path.stem)]
        assert [path.parent.name for path in uploaded] == [SUBFOLDER]


def test_a_server_that_is_killed_costs_only_what_it_was_at(server, started, picture):
    said, done = [], []
    with Fleet([server.url, started.url], said.append) as fleet:
        for result in fleet.run([job(number, picture) for number in range(100, 160)]):
            done.append(result)
            if len(done) == 10:
                started.process.kill()
                started.process.wait()
    assert sorted(result.job.key for result in done) == [str(number) for number in range(100, 160)]
    assert not any(result.error for result in done)
    assert any(started.url in words for words in said)


def test_a_server_that_comes_back_is_used_again(started, picture):
    said, done = [], []
    with Fleet([started.url], said.append, Patience(servers=120)) as fleet:
        for result in fleet.run([job(number, picture) for number in range(200, 206)]):
            done.append(result)
            if len(done) == 3:
                started.process.kill()
                started.process.wait()
                started.start()
    assert len(done) == 6 and not any(result.error for result in done)
    assert said[-1].endswith("answers again.")


def test_it_ends_with_words_when_no_server_answers_any_more(started, picture):
    done = []
    with (
        pytest.raises(ClientError, match=f"(?s)No server has answered for 3 s.*{started.url}"),
        Fleet([started.url], print, Patience(servers=3)) as fleet,
    ):
        for result in fleet.run([job(number, picture) for number in range(300, 310)]):
            done.append(result)
            started.process.kill()
            started.process.wait()
    assert 1 <= len(done) < 10


def test_it_does_not_begin_where_no_server_answers(server):
    with pytest.raises(ClientError, match=f"{NOBODY} does not answer"), Fleet([NOBODY], print):
        pass
    said = []
    with Fleet([NOBODY, server.url], said.append) as fleet:
        assert "LoadImage" in fleet.object_info
    assert NOBODY in said[0]


def test_what_a_server_refuses_is_that_jobs_failure_and_said_once(server, started, picture, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:40])
    jobs = [job(1, picture), job(2, picture, kind="Unheard"), job(3, broken), job(4, tmp_path / "gone.png")]
    with Fleet([server.url, started.url], print) as fleet:
        results = {result.job.key: result.error for result in fleet.run(jobs)}
    assert results["1"] == ""
    assert "Unheard" in results["2"]
    assert "broken.png was expected to be a picture" in results["3"]
    assert "gone.png" in results["4"]


def test_failures_that_are_all_alike_end_the_work(server, picture):
    jobs = [job(number, picture, kind="Unheard") for number in range(100)]
    done = []
    with pytest.raises(ClientError, match=f"{MOST_ALIKE} in a row"), Fleet([server.url], print) as fleet:
        done.extend(fleet.run(jobs))
    assert len(done) == MOST_ALIKE


def test_a_stop_takes_the_prompt_from_the_server(server, tiny):
    prompt = tiny.changed("KSampler", steps=2000, seed=5)
    slow = Job("slow", "slow", lambda object_info, names: dict(prompt))
    fleet, said = Fleet([server.url], print), []

    def work() -> None:
        try:
            said.extend(fleet.run([slow]))
        except ClientError as error:
            said.append(str(error))

    running = threading.Thread(target=work, daemon=True)
    with fleet:
        running.start()
        time.sleep(5)
        begin = time.monotonic()
    assert time.monotonic() < begin + 10
    running.join(PATIENCE)
    assert said == ["The work was stopped; what it has not done yet is left."]
    with Client(server.url) as client:
        deadline = time.monotonic() + PATIENCE
        while any(client.do(client.request("GET", "/queue")).values()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not any(client.do(client.request("GET", "/queue")).values())


def test_a_job_that_takes_too_long_is_taken_from_the_server_and_given_up_in_the_end(server, tiny):
    prompt = tiny.changed("KSampler", steps=2000, seed=6)
    slow = Job("slow", "slow", lambda object_info, names: dict(prompt))
    with Fleet([server.url], print, Patience(job=2)) as fleet:
        (result,) = fleet.run([slow])
    assert "3 times a server was lost at it" in result.error and "not done within 2 s" in result.error


def test_work_goes_on_where_it_was_and_tries_what_failed_last(server, picture, tmp_path):
    made = []

    def keep(result):
        made.append(result.job.key)
        return {"file": result.job.key}

    jobs = [job(1, tmp_path / "late.png"), job(2, picture), job(3, picture)]
    with Journal(tmp_path / "journal.jsonl") as journal, Fleet([server.url], print) as fleet:
        (failed,) = work_through(jobs, journal, fleet, keep, Progress(3, 0))
    assert failed.job.key == "1" and made == ["2", "3"]
    picture.rename(tmp_path / "late.png")
    Image.new("RGB", (9, 9)).save(picture)
    with Journal(tmp_path / "journal.jsonl") as journal, Fleet([server.url], print) as fleet:
        assert journal.failed == {"1"}
        assert work_through(jobs, journal, fleet, keep, Progress(3, 2)) == []
    assert made == ["2", "3", "2", "3", "1"]  # their picture has changed
