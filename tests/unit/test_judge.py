"""DreamBench++'s judge, asked over HTTP: a small server answers as OpenAI's API does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ipadapter_instruct.commands.evaluate.judge import TRIES, Judge, JudgeError, judged
from ipadapter_instruct.commands.evaluate.manifest import Row
from ipadapter_instruct.commands.evaluate.scoring import Image
from ipadapter_instruct.commands.servers.journal import Journal
from PIL import Image as PillowImage
from support.servers.answering_judge import Answering, marks, pictures

COLOURS = {"red": (250, 5, 5), "blue": (5, 5, 250)}


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict], object]], Answering]]:
    started: list[Answering] = []

    def start(reply: Callable[[dict], object]) -> Answering:
        server = Answering(reply)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Image]:
    """A red image of a style and a blue one of a face, with a blue reference."""
    for name, colour in COLOURS.items():
        PillowImage.new("RGB", (40, 20), colour).save(tmp_path / f"{name}.png")
    rows = {"red": ("style", "a red field"), "blue": ("face", "a blue man")}
    return {
        name: Image(
            name, Row("line 1", "blue.png", task, (), prompt, 0), tmp_path / f"{name}.png", tmp_path / "blue.png"
        )
        for name, (task, prompt) in rows.items()
    }


def texts(asked: dict) -> list[str]:
    contents = [message["content"] for message in asked["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [c for c in contents if isinstance(c, str)] + [part["text"] for part in parts if part["type"] == "text"]


def judge(images, asked: Judge, folder: Path) -> dict:
    with Journal(folder / "judge.jsonl") as journal:
        return judged(images, asked, journal, lambda *_: None)


def test_each_image_is_judged_by_reference_and_by_prompt(serve, images, tmp_path):
    server = serve(marks)
    found = judge(images, Judge(server.url, "some-model", runs=2), tmp_path)
    assert found == {"CP": {"red": 0.25, "blue": 1.0}, "PF": {"red": 0.75, "blue": 0.75}}
    assert len(server.asked) == 8
    assert set(server.paths) == {"/v1/chat/completions"}
    assert {asked["model"] for asked in server.asked} == {"some-model"}
    assert all("Authorization" not in headers for headers in server.headers)
    by_prompt = [texts(asked) for asked in server.asked if len(pictures(asked)) == 1]
    assert sorted(said[-1] for said in by_prompt) == ["a blue man"] * 2 + ["a red field"] * 2
    by_reference = {pictures(asked)[1]: texts(asked)[0] for asked in server.asked if len(pictures(asked)) == 2}
    assert "style of the reference" in by_reference["red"]
    assert "subject of the reference" in by_reference["blue"]


def test_the_key_is_sent_to_the_judge_when_there_is_one(serve, images, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "abc")
    server = serve(marks)
    judge(images, Judge(server.url, "m", runs=1), tmp_path)
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer abc"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_other_address_is_called_where_the_judge_sends_elsewhere(serve, images, tmp_path, monkeypatch, status):
    monkeypatch.setenv("JUDGE_API_KEY", "abc")
    elsewhere = serve(marks)
    server = serve(lambda asked: (status, b"", ("Location", f"{elsewhere.url}/chat/completions")))
    with pytest.raises(JudgeError, match=f"it answered {status}"):
        judge(images, Judge(server.url, "m", runs=1), tmp_path)
    assert elsewhere.gets + elsewhere.asked == []


def test_what_was_answered_is_not_asked_again(serve, images, tmp_path):
    server = serve(marks)
    first = judge(images, Judge(server.url, "m", runs=1), tmp_path)
    assert judge(images, Judge(server.url, "m", runs=1), tmp_path) == first
    assert len(server.asked) == 4
    judge(images, Judge(server.url, "m", runs=2), tmp_path)
    assert len(server.asked) == 8, "only the second run of each"
    judge(images, Judge(server.url, "other", runs=1), tmp_path)
    assert len(server.asked) == 12, "another model is asked by itself"


@pytest.mark.parametrize(
    "content, mark", [("Score: 2", 2), ("score: 0", 0), ("Fine work.\nScore: Good 3\n", 3), ("**Score: 4**", 4)]
)
def test_a_mark_is_read_as_dreambench_reads_it(serve, images, tmp_path, content, mark):
    found = judge({"red": images["red"]}, Judge(serve(lambda _: content).url, "m", runs=1), tmp_path)
    assert found == {"CP": {"red": mark / 4}, "PF": {"red": mark / 4}}


@pytest.mark.parametrize(
    "reply, said",
    [
        (lambda _: "I would say two.", "'Score: ' and a number were expected once"),
        (lambda _: "Score: 2, no, Score: 3", "expected once"),
        (lambda _: "Score: 5", "a mark from 0 to 4 was expected; it gave 5"),
        (lambda _: (429, b"slow down"), "429"),
        (lambda _: (200, b"<html>"), "gave no mark"),
        (lambda _: (200, b"[]"), "expected once"),
    ],
)
def test_a_judge_that_gives_no_mark_is_asked_again_and_then_its_answer_is_said(
    serve, images, tmp_path, monkeypatch, reply, said
):
    monkeypatch.setattr("ipadapter_instruct.commands.evaluate.judge.PAUSE", 0.0)
    server = serve(reply)
    with pytest.raises(JudgeError, match="gave no mark") as caught:
        judge({"red": images["red"]}, Judge(server.url, "m", runs=1), tmp_path)
    assert said in str(caught.value)
    assert len(server.asked) == 2 * TRIES


def test_one_image_without_a_mark_leaves_the_others_theirs(serve, images, tmp_path, monkeypatch):
    monkeypatch.setattr("ipadapter_instruct.commands.evaluate.judge.PAUSE", 0.0)
    refusing = serve(lambda asked: (400, b"not this one") if pictures(asked)[-1] == "red" else marks(asked))
    found = judge(images, Judge(refusing.url, "m", runs=1), tmp_path)
    assert found == {"CP": {"blue": 1.0}, "PF": {"blue": 0.75}}
    willing = serve(marks)
    assert judge(images, Judge(willing.url, "m", runs=1), tmp_path)["CP"] == {"red": 0.25, "blue": 1.0}
    assert len(willing.asked) == 2


def test_dreambenchs_own_questions_are_asked_where_they_are_given(serve, images, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    for kind in ("subject", "style", "text"):
        (folder / f"user_prompt_{kind}_full.txt").write_text(f"their {kind}\n")
        (folder / f"gpt_prompt_{kind}_full.txt").write_text(f"yes, {kind}\n")
    server = serve(marks)
    judge(images, Judge(server.url, "m", runs=1, prompts=folder), tmp_path)
    opened = sorted([(m["role"], m["content"]) for m in asked["messages"][:2]] for asked in server.asked)
    kinds = ["style", "subject", "text", "text"]
    assert opened == [[("user", f"their {kind}"), ("assistant", f"yes, {kind}")] for kind in kinds]


def test_a_folder_without_dreambenchs_questions_is_refused_before_anything_is_asked(serve, images, tmp_path):
    server = serve(marks)
    with pytest.raises(ValueError, match="DreamBench\\+\\+'s questions were expected in"):
        judge(images, Judge(server.url, "m", runs=1, prompts=tmp_path), tmp_path)
    assert server.asked == []


def test_a_judge_that_is_not_there_is_said(images, tmp_path, monkeypatch):
    monkeypatch.setattr("ipadapter_instruct.commands.evaluate.judge.PAUSE", 0.0)
    with pytest.raises(JudgeError, match="127.0.0.1:9"):
        judge(images, Judge("http://127.0.0.1:9/v1", "m", runs=1), tmp_path)
