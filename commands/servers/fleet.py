"""Several servers that work through one list of jobs. One that is slow or dead costs only what it was at."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from .api_prompt import ObjectInfo
from .client import Client, ClientError
from .jobs import Job, Result, Runner

FIRST_ANSWERS = 10.0  # seconds that the others are waited for, once one server has answered
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds until a server that does not answer is asked again; it doubles
MOST_LOSSES = 3  # servers lost at the same job, after which it is the job's fault
MOST_ALIKE = 20  # failures of one kind, one after the other, after which something is wrong with more than the jobs
TICK = 0.5
Meet = Callable[[Client], None]


@dataclass(frozen=True)
class Patience:
    """Seconds that a job may take, and that all servers may be away."""

    job: float = 3600
    servers: float = 600


@dataclass(frozen=True)
class News:
    """A worker's word: its server answers, is lost, or has done with its job."""

    worker: Worker
    result: Result | None = None
    lost: str = ""


class Worker(threading.Thread):
    """Runs jobs on one server, in a thread of its own. `reason`: why the server is not there, if it is not."""

    def __init__(self, url: str, patience: Patience, news: queue.Queue, stopping: threading.Event, meet: Meet):
        super().__init__(name=url, daemon=True)
        self.url, self.patience, self.news, self.stopping, self.meet = url, patience, news, stopping, meet
        self.inbox: queue.Queue[Job] = queue.Queue()
        self.object_info: ObjectInfo | None = None
        self.pause = FIRST_PAUSE
        self.alive, self.reason = False, ""  # these, and the job it is at, are the fleet's
        self.job: Job | None = None

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with Client(self.url) as client:
                    self.object_info = client.object_info()
                    self.meet(client)
                    self.news.put(News(self))
                    self.work(Runner(client, self.object_info, lambda: not self.stopping.is_set(), self.patience.job))
            except Exception as error:  # whatever it is, the others go on
                lost = str(error) if isinstance(error, ClientError) else f"{self.url}: {error!r}"
                self.news.put(News(self, lost=lost))
                self.stopping.wait(self.pause)
                self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def work(self, runner: Runner) -> None:
        """Run what comes until the end. Raises ClientError when the server is lost."""
        while not self.stopping.is_set():
            try:
                job = self.inbox.get(timeout=TICK)
            except queue.Empty:
                continue
            try:
                result = runner.run(job)
                self.pause = FIRST_PAUSE
            except ClientError:
                raise
            except ValueError as error:  # from the job's own files and prompt
                result = Result(job, error=str(error))
            self.news.put(News(self, result))


@dataclass
class Attempts:
    """The tries of one job: reasons by the servers that refused it, and how many were lost at it."""

    refused: dict[str, str] = field(default_factory=dict)
    losses: int = 0


class Fleet:
    """Servers to run jobs on, as a context manager.

    say: told in words when a server is lost or comes back. meet: called with each server that answers, before its jobs;
    a ClientError that it raises says why the server is not to be used. Raises ClientError when none answers at first.
    """

    def __init__(
        self,
        urls: Sequence[str],
        say: Callable[[str], None],
        patience: Patience | None = None,
        meet: Meet = lambda client: None,
    ):
        self.say, self.patience = say, patience or Patience()
        self.news: queue.Queue[News] = queue.Queue()
        self.stopping = threading.Event()
        whole = dict.fromkeys(url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}" for url in urls)
        self.workers = [Worker(url, self.patience, self.news, self.stopping, meet) for url in whole]
        self.waiting: deque[Job] = deque()
        self.again: list[Job] = []  # they were tried, and come first
        self.attempts: dict[str, Attempts] = {}
        self.seen = 0.0  # when a server last answered

    def __enter__(self) -> Fleet:
        for worker in self.workers:
            worker.start()
        try:
            self.wait_for_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_answers(self) -> None:
        """Wait until each server has answered or is lost, but not long for the others once one has answered."""
        silent, begin = set(self.workers), time.monotonic()
        while silent and not (self.seen and time.monotonic() > begin + FIRST_ANSWERS):
            with suppress(queue.Empty):
                news = self.news.get(timeout=TICK)
                silent.discard(news.worker)
                self.note(news)
        if not self.seen:
            raise ClientError("\n".join(worker.reason for worker in self.workers))

    def __exit__(self, *_) -> None:
        self.stopping.set()
        for worker in self.workers:
            worker.join(10)

    @property
    def object_info(self) -> ObjectInfo:
        """The first answering server's word on its nodes."""
        return next(worker.object_info for worker in self.workers if worker.object_info is not None)

    def run(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield the result of each job, as they come.

        Raises ClientError when no server has answered for long, or when all fails alike: run the jobs left over later.
        """
        self.waiting, self.again, self.attempts = deque(jobs), [], {job.key: Attempts() for job in jobs}
        left, alike, before = len(jobs), 0, ""
        while left:
            for result in (*self.hand_out(), *self.take_in()):
                left -= 1
                alike = alike + 1 if result.error and result.error == before else 0
                before = result.error
                yield result
                if alike + 1 >= MOST_ALIKE:
                    raise ClientError(f"{MOST_ALIKE} in a row failed alike, so nothing more was tried. {before}")
            self.check_servers()

    def hand_out(self) -> list[Result]:
        """Give jobs to servers that have none; return those that every server which is there has refused."""
        alive = [worker for worker in self.workers if worker.alive]
        given_up = [job for job in self.again if alive and all(self.refused(job, worker) for worker in alive)]
        self.again = [job for job in self.again if job not in given_up]
        for worker in alive:
            if not worker.job and (job := self.next_job(worker)):
                worker.job = job
                worker.inbox.put(job)
        return [Result(job, error=next(iter(self.attempts[job.key].refused.values()))) for job in given_up]

    def next_job(self, worker: Worker) -> Job | None:
        for job in self.again:
            if not self.refused(job, worker):
                self.again.remove(job)
                return job
        return self.waiting.popleft() if self.waiting else None

    def refused(self, job: Job, worker: Worker) -> bool:
        return worker.url in self.attempts[job.key].refused

    def take_in(self) -> list[Result]:
        """Wait a moment for news; return results that count."""
        try:
            news = self.news.get(timeout=TICK)
        except queue.Empty:
            return []
        job, result = news.worker.job, news.result
        self.note(news)
        if job is None or not (result or news.lost):
            return []
        news.worker.job = None
        attempts = self.attempts[job.key]
        if result and not result.error:
            return [result]
        if result:
            attempts.refused[news.worker.url] = result.error
        else:
            attempts.losses += 1
            if attempts.losses >= MOST_LOSSES:
                return [Result(job, error=f"{attempts.losses} times a server was lost at it. {news.lost}")]
        self.again.append(job)
        return []

    def note(self, news: News) -> None:
        """Keep whether a server is there, and say so when that has changed."""
        worker, was_lost = news.worker, news.worker.reason
        worker.alive, worker.reason = not news.lost, news.lost
        if news.lost and not was_lost:
            self.say(f"{news.lost} It is asked again; the others go on.")
        elif was_lost and not news.lost:
            self.say(f"{worker.url} answers again.")
        if worker.alive:
            self.seen = time.monotonic()

    def check_servers(self) -> None:
        """Raises ClientError when none has answered for long, and when the fleet was left meanwhile."""
        if self.stopping.is_set():
            raise ClientError("The work was stopped; what it has not done yet is left.")
        if any(worker.alive for worker in self.workers):
            self.seen = time.monotonic()
        elif time.monotonic() > self.seen + self.patience.servers:
            reasons = "\n".join(f"{worker.url}: {worker.reason}" for worker in self.workers)
            raise ClientError(f"No server has answered for {self.patience.servers:.0f} s.\n{reasons}")
