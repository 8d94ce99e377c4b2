"""What the service does by itself, again and again: writing what the audit log has counted, reading bases for damage.

Each job has a thread of its own. It begins with `start`, and ends with `stop`. A job that fails is told of in the log,
once until it works again, and goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from provision.errors import ProvisionError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """`work` is called `first` seconds after the start, and `every` seconds after each end. A `long` one is not waited
    for when all ends: what it has done by then it has done."""

    name: str
    work: Callable[[], None]
    first: float
    every: float
    long: bool = False


class Jobs:
    """All jobs of a process, for `with`."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs, self._stop = tuple(jobs), threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for job in self._jobs:
            # A daemon: the process may end in the middle of a long job.
            thread = threading.Thread(target=self._run, args=(job,), name=job.name, daemon=True)
            thread.start()
            if not job.long:
                self._threads.append(thread)

    def stop(self) -> None:
        """Begin nothing any more, and wait for what was begun; harmless when said before."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, job: Job) -> None:
        wait, failed = job.first, False
        while not self._stop.wait(wait):
            wait = job.every
            try:
                job.work()
                failed = False
            except ProvisionError as error:
                if not failed:
                    _log.error("%s: %s", job.name, error)
                failed = True
            except Exception as error:  # its message could hold anything
                if not failed:
                    _log.error("internal error (%s) in %s", type(error).__name__, job.name)
                failed = True
