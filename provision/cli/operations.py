"""Following operations of the service to their ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from provision.cli.arguments import route
from provision.errors import ProvisionError

if TYPE_CHECKING:
    from provision.api.operations import Operation
    from provision.cli.client import Client


@dataclass(frozen=True)
class Followed:
    """How what was begun for a host, or with an image, ended: its operation, or why there is none or it failed."""

    host: str
    operation: Operation | None
    error: ProvisionError | None


def _quiet(stage: str, fraction: float) -> None:
    """Nobody wants to know how far it is."""


Begin = Callable[[str], "Operation"]
Say = Callable[[str, str], None]
Progress = Callable[[str, float], None]


def follow(
    client: Client, name: str, begin: Begin, say: Say = lambda name, text: None, progress: Progress = _quiet
) -> Operation:
    """Begin an operation for a host or an image and wait for its end; say each of its steps, and how far it is.

    Raises the error that it ended with. Ctrl-C cancels it, as in `follow_all`.
    """
    (ended,) = follow_all(client, [name], begin, say, progress=progress)
    if ended.error is not None:
        raise ended.error
    assert ended.operation is not None  # noqa: S101  (without an error there is one)
    return ended.operation


def follow_all(
    client: Client, hosts: Iterable[str], begin: Begin, say: Say, at_once: int = 1, progress: Progress = _quiet
) -> list[Followed]:
    """Begin an operation for each host, so many at a time, and wait for their ends, in whose order they are returned.

    Ctrl-C cancels those that run, begins no others, waits for their ends and goes on; another one does not wait. Nor is
    waited for one that goes on because others wait for it, too.
    """
    following = _Following(client, list(hosts), begin, say, progress)
    try:
        following.to_the_end(at_once)
    except KeyboardInterrupt:
        following.cancel()
        following.to_the_end(0)
        raise
    return following.ended


class _Following:
    def __init__(self, client: Client, waiting: list[str], begin: Begin, say: Say, progress: Progress) -> None:
        self._client, self._waiting, self._begin, self._say = client, waiting, begin, say
        self._progress = progress
        self._running: dict[str, Operation] = {}
        self.ended: list[Followed] = []

    def to_the_end(self, at_once: int) -> None:
        """Begin what waits, `at_once` at a time, until all is over; with 0, until what runs is over."""
        while self._running or (at_once and self._waiting):
            while self._waiting and len(self._running) < at_once:
                self._start(self._waiting.pop(0))
            for host in list(self._running):
                self._look(host)

    def cancel(self) -> None:
        """Cancel what runs."""
        from provision.api.operations import Operation, OperationState

        for operation in self._running.values():
            self._client.remove(route("operations", operation.id))
        for host, operation in list(self._running.items()):
            seen = self._client.call(Operation, "GET", route("operations", operation.id))
            if seen.cancelled or seen.state is not OperationState.RUNNING:
                self._say(host, f"cancelling operation {operation.id}, and undoing what it has done")
            else:
                self._say(host, f"operation {operation.id} goes on for others who wait for it")
                del self._running[host]

    def _start(self, host: str) -> None:
        try:
            with _interrupted_after():
                self._running[host] = self._begin(host)
        except ProvisionError as error:
            self.ended.append(Followed(host, None, error))
            return
        for step in self._running[host].steps:
            self._say(host, step)

    def _look(self, host: str) -> None:
        """Wait for a second, or until there is news of the host's operation."""
        from provision.api.operations import Operation, OperationState

        known = self._running[host]
        if known.state is OperationState.RUNNING:
            wanted = {"wait": "1", "steps": str(len(known.steps))}
            seen = self._client.call(Operation, "GET", route("operations", known.id), params=wanted)
            for step in seen.steps[len(known.steps) :]:
                self._say(host, step)
            if seen.progress is not None:
                self._progress(seen.progress.stage, seen.progress.fraction)
            self._running[host] = known = seen
        if known.state is not OperationState.RUNNING:
            del self._running[host]
            failed = known.state is OperationState.FAILED
            self.ended.append(Followed(host, known, _error(known) if failed else None))


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Ctrl-C counts at the end, when an operation that was asked for is known and can be cancelled; a second one does
    not wait. Nothing changes where Ctrl-C is ignored, as in the background of a shell's script."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    counts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not counts or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt


def _error(failed: Operation) -> ProvisionError:
    from provision.cli.received import error_of, foreign

    return error_of(failed.problem) if failed.problem is not None else foreign()
