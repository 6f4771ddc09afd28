"""DreamBench++'s judge: a model behind any address that answers as OpenAI's does. It is asked only where one is named.

Two marks of 0 to 4 for each image: concept preservation, from reference and image, and prompt following, from prompt
and image. The questions are this pack's own words for their criteria; a folder of theirs can be given instead.

Source: yuangpeng/dreambench_plus@df0b960, eval_concept_preservation.py and eval_prompt_following.py.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ..servers.journal import Journal
from .embeddings import Told
from .pixels import opened
from .scoring import Image

KEY = "JUDGE_API_KEY"
SIDE = 512  # of the pictures it sees, in pixels
HIGHEST = 4
SCORED = ("CP", "PF")
MOST_FAILED = 5  # questions without a mark, before any has one
MARK = re.compile(r"[Ss]core:\s*[a-zA-Z]*\s*(\d+)")
TRIES, PAUSE = 3, 1.0
LONGEST_WAIT = 120  # seconds for an answer
ASKERS = 4
WANTED_ANSWER = "Answer with one line and nothing else: Score: N, where N is a whole number from 0 to 4."
SCALE = "0: not at all. 1: hardly. 2: in part. 3: well, with small differences. 4: fully."
SUBJECT_QUESTION = (
    "You compare two pictures: first a reference, then a picture that was generated from it. Judge how far the subject "
    "of the reference is kept in the second picture: its shape and proportions, its colours, its texture and details "
    f"and, of a person or an animal, its face. {SCALE} {WANTED_ANSWER}"
)
STYLE_QUESTION = (
    "You compare two pictures: first a reference, then a picture that was generated from it. Judge how far the style "
    "of the reference is kept in the second picture, whatever that shows: its colours and tones, its texture and "
    f"brush work, its way of composing. {SCALE} {WANTED_ANSWER}"
)
PROMPT_QUESTION = (
    "You see a prompt and a picture that was generated from it. Judge how far the picture shows what the prompt says: "
    f"what is relevant, right, complete and set as described. {SCALE} {WANTED_ANSWER}"
)


@dataclass(frozen=True)
class Judge:
    """The address and the model to ask, each question so many times. prompts: DreamBench++'s folder, or None."""

    url: str
    model: str
    runs: int = 3
    prompts: Path | None = None

    def opening(self, kind: str) -> list[dict]:
        """Return the messages before the pictures. kind: subject, style or text."""
        if self.prompts is None:
            words = {"subject": SUBJECT_QUESTION, "style": STYLE_QUESTION, "text": PROMPT_QUESTION}[kind]
            return [{"role": "user", "content": words}]
        roles = (("user", "user_prompt"), ("assistant", "gpt_prompt"))
        files = {role: self.prompts / f"{name}_{kind}_full.txt" for role, name in roles}
        there = {role: file for role, file in files.items() if file.is_file()}
        if "user" not in there:
            raise ValueError(
                f"DreamBench++'s questions were expected in {self.prompts}; {files['user'].name} is not there. Name "
                "its repository's folder dreambench_plus/prompts, or leave --judge-prompts out."
            )
        return [{"role": role, "content": file.read_text(encoding="utf-8").strip()} for role, file in there.items()]

    def messages(self, score: str, image: Image) -> list[dict]:
        """Return what is asked for a score, CP or PF, of an image."""
        if score == "PF":
            return [*self.opening("text"), _user({"type": "text", "text": image.row.prompt}, _picture(image.path))]
        kind = "style" if image.row.task == "style" else "subject"
        return [*self.opening(kind), _user(_picture(image.reference), _picture(image.path))]

    def ask(self, messages: Sequence[dict]) -> int:
        """Return the mark that the judge gives. Raises JudgeError when it gives none, after some tries."""
        body = json.dumps({"model": self.model, "messages": list(messages), "temperature": 1}).encode()
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {os.environ[KEY]}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        for number in range(TRIES):
            try:
                return _answer(request)
            except (OSError, ValueError) as error:
                said = str(error)
                time.sleep(PAUSE * number)
        raise JudgeError(f"The judge at {self.url} gave no mark: {said}")


class SameAddress(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: pictures, questions and the key are for the address that was named alone."""

    def redirect_request(self, *_) -> None:
        return None


class JudgeError(ValueError):
    """The judge gave no mark; the message says what it said instead."""


def judged(images: Mapping[str, Image], judge: Judge, journal: Journal, tell: Told) -> dict[str, dict[str, float]]:
    """Return CP and PF of each image by key, as shares of the highest mark.

    What was answered before is not asked again. An image without a mark has no such score. Raises JudgeError where the
    judge gives none at first.
    """
    who = [judge.model, str(judge.prompts or "")]
    asked = {
        json.dumps([_digest(images[key]), score, number, *who]): (score, images[key])
        for key in sorted(images)
        for score in SCORED
        for number in range(judge.runs)
    }
    left = {name: one for name, one in asked.items() if name not in journal.done}
    done = len(asked) - len(left)
    for name, mark in _marks(judge, left):
        journal.add(name, None if isinstance(mark, JudgeError) else {"mark": mark})
        done += 1
        tell(done, len(asked), "answers of the judge")
    sums: dict[str, dict[str, list[int]]] = {score: {} for score in SCORED}
    for name, (score, image) in asked.items():
        if name in journal.done:
            sums[score].setdefault(image.key, []).append(journal.done[name]["mark"])
    return {score: {k: sum(m) / len(m) / HIGHEST for k, m in marks.items()} for score, marks in sums.items()}


def _marks(judge: Judge, asked: Mapping[str, tuple[str, Image]]) -> Iterator[tuple[str, int | JudgeError]]:
    given = failed = 0
    with ThreadPoolExecutor(ASKERS) as askers:
        try:
            answers = {
                askers.submit(lambda score=score, image=image: judge.ask(judge.messages(score, image))): name
                for name, (score, image) in asked.items()
            }
            for answer in as_completed(answers):
                error = answer.exception()
                if error is not None and not isinstance(error, JudgeError):
                    raise error
                given, failed = given + (error is None), failed + (error is not None)
                if error is not None and not given and failed >= min(MOST_FAILED, len(asked)):
                    raise error
                yield answers[answer], error or answer.result()
        finally:
            askers.shutdown(cancel_futures=True)


def _digest(image: Image) -> str:
    """Return what tells apart what the judge sees of an image."""
    digest = hashlib.sha256(image.path.read_bytes())
    for part in (image.reference.read_bytes(), image.row.prompt.encode(), image.row.task.encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _answer(request: urllib.request.Request) -> int:
    try:
        with urllib.request.build_opener(SameAddress).open(request, timeout=LONGEST_WAIT) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        said = error.read(300).decode("utf-8", "replace")
        raise ValueError(f"it answered {error.code} {error.reason}. {said}") from None
    try:
        content = answer["choices"][0]["message"]["content"]
        (mark,) = (int(found) for found in MARK.findall(content))
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(f"'Score: ' and a number were expected once; it said {json.dumps(answer)[:300]}") from None
    if not 0 <= mark <= HIGHEST:
        raise ValueError(f"a mark from 0 to {HIGHEST} was expected; it gave {mark}")
    return mark


def _user(*content: dict) -> dict:
    return {"role": "user", "content": list(content)}


def _picture(path: Path) -> dict:
    file = io.BytesIO()
    opened(path).resize((SIDE, SIDE)).save(file, "JPEG")
    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
