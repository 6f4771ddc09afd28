"""Jobs worked through by a fleet, with a journal: what was done before is not done again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from .fleet import Fleet
from .jobs import Job, Result, is_as_before
from .journal import Journal
from .progress import Progress

Keep = Callable[[Result], dict]  # puts a result's pictures where they belong, and returns what the journal notes of it


def records(
    jobs: Sequence[Job], journal: Journal, is_there: Callable[[dict], bool] = lambda made: True
) -> dict[str, dict]:
    """Return what is done of these jobs, by their keys: as far as the files they need have not changed since.

    is_there: whether what was made for one is there yet.
    """
    found = {job.key: journal.done[job.key] for job in jobs if job.key in journal.done}
    files = {job.key: job.files for job in jobs}
    return {
        key: record["made"]
        for key, record in found.items()
        if is_there(record["made"])
        and all(is_as_before(path, record["files"].get(name, {})) for name, path in files[key].items())
    }


def work_through(jobs: Sequence[Job], journal: Journal, fleet: Fleet, keep: Keep, progress: Progress) -> list[Result]:
    """Run the jobs that are not done yet, and return those that failed; see `take_in`."""
    done = records(jobs, journal)
    return take_in(fleet.run(failed_last(jobs, journal, done)), journal, keep, progress)


def failed_last(jobs: Sequence[Job], journal: Journal, done: Collection[str]) -> list[Job]:
    """Return the jobs that are not done, those that failed before last."""
    return sorted((job for job in jobs if job.key not in done), key=lambda job: job.key in journal.failed)


def take_in(results: Iterable[Result], journal: Journal, keep: Keep, progress: Progress) -> list[Result]:
    """Keep results as they come, and return those that failed.

    Files are written by `keep` before the journal names them. Raises OSError, as for a full disk.
    """
    failed = []
    try:
        for result in results:
            error = kept(result, journal, keep)
            if error:
                progress.say(f"{result.job.name}: {error}")
                failed.append(Result(result.job, error=error))
            progress.add(failed=bool(error))
    except OSError as error:
        raise OSError(f"{error}. What is done is noted: run the same command again, and it goes on.") from error
    return failed


def kept(result: Result, journal: Journal, keep: Keep) -> str:
    """Keep a result, or note that it failed; return why, or ""."""
    job, error = result.job, result.error
    if not error:
        try:
            journal.add(job.key, {"files": result.files, "made": keep(result)})
        except ValueError as problem:
            error = str(problem)
    if error:
        journal.add(job.key, None, name=job.name, error=error)
    return error
