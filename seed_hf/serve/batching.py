"""Requests that arrive together are worked on together: a thread that collects equal jobs into batches."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from .metrics import Metrics


class Job:
    """
    Part of the work of one request.

    Args:
        work (`Callable`): Takes the items of several jobs and gives a result for each.
        settings (`Hashable`): Passed to `work`; jobs with the same work and settings may share a batch.
        items (`Sequence`): Rows of a batch.
    """

    def __init__(self, work: Callable[[list, Any], list], settings: Hashable, items: Sequence):
        self.work, self.settings, self.items = work, settings, list(items)
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()
        self.is_cancelled = False

    @property
    def key(self) -> tuple:
        """What jobs that share a batch have in common."""
        return self.work, self.settings

    def cancel(self):
        """Says that nobody waits for the result any more."""
        self.is_cancelled = True
        for item in self.items:
            item.is_cancelled = True

    def finish(self, results: list | Exception):
        """Hands the results over to the event loop."""
        self.loop.call_soon_threadsafe(self._set, results)

    def _set(self, results: list | Exception):
        if self.future.done():
            return
        if isinstance(results, Exception):
            self.future.set_exception(results)
        else:
            self.future.set_result(results)


class Lane:
    """
    A thread with a queue of jobs.

    Args:
        name (`str`): Name in the metrics.
        metrics ([`Metrics`]): What counts batches and cancelled jobs.
        max_batch (`int`): Largest number of rows of a batch; one job alone may have more.
        seconds (`float`): How long the first job of a batch waits for others.
    """

    def __init__(self, name: str, metrics: Metrics, max_batch: int, seconds: float):
        self.name, self.metrics, self.max_batch, self.seconds = name, metrics, max_batch, seconds
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._work, name=f"seed-hf {name}", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[list, Any], list], settings: Hashable, items: Sequence) -> list:
        """
        Works on items, in one batch with those of other requests; cancelling it stops the work.

        Args:
            work (`Callable`): Takes items and settings, and gives a result for each item. Runs in the thread.
            settings (`Hashable`): Settings that all items of a batch share.
            items (`Sequence`): Rows. Their attribute `is_cancelled` becomes true when nobody waits for them.

        Returns:
            `list`: A result for each item.

        Raises:
            Exception: What the work raised for this job alone.
        """
        job = Job(work, settings, items)
        with self._changed:
            self._queue.append(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            if not job.future.done() or job.future.cancelled():
                job.cancel()

    def close(self):
        """Ends the thread after what it is working on."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    def _work(self):
        while jobs := self._next_batch():
            self._run(jobs)

    def _next_batch(self) -> list[Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or not self._is_open)
            if not self._queue:
                return []
            first = self._queue[0]
            until = time.monotonic() + self.seconds
            while (left := until - time.monotonic()) > 0 and self._waiting_rows(first) < self.max_batch:
                self._changed.wait(left)
            return self._take_equals(first)

    def _waiting_rows(self, first: Job) -> int:
        return sum(len(job.items) for job in self._queue if job.key == first.key)

    def _take_equals(self, first: Job) -> list[Job]:
        """The first job, and those equal to it as long as they fit; the others keep their order."""
        taken, rows = [], 0
        for job in list(self._queue):
            if job is first or job.key == first.key and rows + len(job.items) <= self.max_batch:
                self._queue.remove(job)
                taken.append(job)
                rows += len(job.items)
        return taken

    def _run(self, jobs: list[Job]):
        waiting = [job for job in jobs if not job.is_cancelled]
        self.metrics.cancelled_jobs.labels(self.name, "waiting").inc(len(jobs) - len(waiting))
        if not waiting:
            return
        items = [item for job in waiting for item in job.items]
        self.metrics.batch_rows.labels(self.name).observe(len(items))
        try:
            results = waiting[0].work(items, waiting[0].settings)
        except Exception as error:
            self._fail(waiting, error)
            return
        self.metrics.cancelled_jobs.labels(self.name, "running").inc(sum(job.is_cancelled for job in waiting))
        for job in waiting:
            job.finish(results[: len(job.items)])
            del results[: len(job.items)]

    def _fail(self, jobs: list[Job], error: Exception):
        """One job must not spoil the others: each is tried alone."""
        if len(jobs) > 1:
            for job in jobs:
                self._run([job])
        else:
            jobs[0].finish(error)


__all__ = ["Job", "Lane"]
