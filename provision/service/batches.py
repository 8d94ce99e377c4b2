"""Batches: one action for many hosts, some of them at a time, followed to its end and cancelled as a whole.

They are kept in memory, as operations are. Who has begun one must stay somebody: with a revoked token it goes no
further.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from provision.api.operations import Operation, OperationState
from provision.api.problem import ProblemDocument
from provision.errors import Conflict, NotFound, ProvisionError, Unavailable
from provision.principal import Principal
from provision.service import standing
from provision.service.core import Core
from provision.service.operations import Full, Operations, forgotten
from provision.service.selections import Begin, Refusal, reason

AT_ONCE = 8
"""Hosts of a batch for which something is under way at a time, as with --selector of the command line."""
MOST_RUNNING, MOST_OF_ONE = 4, 3
"""Batches at a time, in all and of one principal."""
_KEPT = 20
_LOOK_SECONDS = 0.2
_END_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Progress(StrEnum):
    """How far a batch is with a host."""

    WAITING = "waiting"
    RUNNING = "under way"
    DONE = "done"
    FAILED = "not done"


@dataclass(frozen=True)
class Row:
    """A host of a batch: how far it is, what was done last, or why it was not done (`text`), and the way out."""

    host: str
    progress: Progress = Progress.WAITING
    text: str = ""
    remedy: str = ""


@dataclass
class Batch:
    """One action for many hosts; the rows are replaced as it goes on."""

    id: str
    title: str
    principal: Principal
    started: datetime
    rows: dict[str, Row]
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: bool = False


class Batches:
    """Every batch that runs, and those that ended lately."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core, self._operations = core, operations
        self._lock = threading.Lock()
        self._known: dict[str, Batch] = {}
        self._threads: dict[str, threading.Thread] = {}

    def begin(
        self, title: str, names: Sequence[str], begin: Begin, principal: Principal, refused: Sequence[Refusal] = ()
    ) -> Batch:
        """Begin an action for the hosts; those that are `refused` already are listed as not done, whatever they would
        be by the time that it is their turn. Raises Conflict when there are too many batches, and Unavailable when this
        process has no thread for one."""
        id_ = secrets.token_hex(6)
        rows = {one.host: Row(one.host, Progress.FAILED, one.reason, one.remedy) for one in refused}
        rows = {name: Row(name) for name in names if name not in rows} | rows
        batch = Batch(id_, title, principal, self._core.clock(), rows)
        thread = threading.Thread(target=self._run, args=(batch, begin), name=f"batch {id_}", daemon=True)
        with self._lock:
            self._require_room(principal.name)
            try:
                thread.start()  # its end waits for the lock
            except RuntimeError:
                raise Unavailable("batches", "there is no thread for another one", "try again in a moment") from None
            self._known[id_], self._threads[id_] = batch, thread
            makers = {known.id: known.principal.name for known in self._known.values() if known.id not in self._threads}
            for known in forgotten(makers, _KEPT):
                del self._known[known]
        return batch

    def _require_room(self, by: str) -> None:
        if len(self._threads) >= MOST_RUNNING:
            raise Conflict("batches", f"{MOST_RUNNING} are under way", "wait for the end of one")
        if [self._known[id_].principal.name for id_ in self._threads].count(by) >= MOST_OF_ONE:
            raise Conflict("batches", f"{MOST_OF_ONE} of {by} are under way", "wait for the end of one")

    def get(self, id_: str, principal: Principal) -> Batch:
        """A batch that the principal has begun, or that is for hosts of theirs only; raises NotFound. What it says of a
        host that is no longer theirs, it says of one that is not there."""
        with self._lock:
            batch = self._known.get(id_)
        if batch is None or not self._sees(batch, principal):
            raise NotFound(
                f"batch {id_}", "there is none of this id", "it may have ended long ago, or before a restart"
            )
        return batch

    def cancel(self, id_: str, principal: Principal) -> None:
        """Begin no more of it, and cancel what is under way; harmless when it has ended. Raises NotFound."""
        self.get(id_, principal).cancelled.set()

    def stop(self) -> None:
        """Begin no more of any, and wait a little for their ends."""
        with self._lock:
            running = [(self._known[id_], thread) for id_, thread in self._threads.items()]
        for batch, _ in running:
            batch.cancelled.set()
        for _, thread in running:
            thread.join(_END_SECONDS)

    def rows(self, batch: Batch, principal: Principal) -> list[Row]:
        """The rows of hosts that the principal sees; hosts may have got other labels since."""
        if not principal.selector:
            return list(batch.rows.values())
        hosts = self._core.hosts
        return [row for name, row in list(batch.rows.items()) if name in hosts and principal.sees(hosts[name].labels)]

    def _sees(self, batch: Batch, principal: Principal) -> bool:
        return batch.principal == principal or len(self.rows(batch, principal)) == len(batch.rows)

    def _run(self, batch: Batch, begin: Begin) -> None:
        try:
            _Running(batch, begin, self._core, self._operations).to_the_end()
        except Exception as error:  # its message could hold anything
            _log.error("internal error (%s) in batch %s", type(error).__name__, batch.id)
            fact = f"an internal error ({type(error).__name__})"
            over = (Progress.DONE, Progress.FAILED)
            left = [host for host, row in batch.rows.items() if row.progress not in over]
            batch.rows |= {host: Row(host, Progress.FAILED, fact, "look at the service's log") for host in left}
        finally:
            batch.ended = True
            with self._lock:
                del self._threads[batch.id]


class _Running:
    """A batch under way, in its thread."""

    def __init__(self, batch: Batch, begin: Begin, core: Core, operations: Operations) -> None:
        self._batch, self._begin, self._core, self._operations = batch, begin, core, operations
        self._waiting = deque(name for name, row in batch.rows.items() if row.progress is Progress.WAITING)
        self._under_way: dict[str, str] = {}

    def to_the_end(self) -> None:
        batch, cancelled = self._batch, False
        while self._waiting or self._under_way:
            if batch.cancelled.is_set() and not cancelled:
                cancelled = True
                self._cancel()
            while self._waiting and len(self._under_way) < AT_ONCE and not batch.cancelled.is_set():
                if not self._start(self._waiting[0]):
                    break
                self._waiting.popleft()
            for host, operation in list(self._under_way.items()):
                self._look(host, operation)
            if self._waiting or self._under_way:
                (threading.Event() if cancelled else batch.cancelled).wait(_LOOK_SECONDS)

    def _start(self, host: str) -> bool:
        """Begin it for the next host; False when there is no room for its operation now."""
        try:
            standing.require(self._core.store, self._batch.principal)
            operation = self._begin(host)
        except Full:
            return False
        except ProvisionError as error:
            self._note(_failed(host, error.subject, error.fact, error.remedy))
            return True
        if operation is None:
            self._note(Row(host, Progress.DONE))
        else:
            self._under_way[host] = operation.id
            self._note(_row(host, operation))
        return True

    def _look(self, host: str, id_: str) -> None:
        try:
            row = _row(host, self._operations.get(id_, self._batch.principal))
        except NotFound as error:  # its host is gone, or is no longer theirs
            row = _failed(host, error.subject, error.fact, error.remedy)
        self._note(row)
        if row.progress is not Progress.RUNNING:
            del self._under_way[host]

    def _cancel(self) -> None:
        while self._waiting:
            self._note(Row(self._waiting.popleft(), Progress.FAILED, "the batch was cancelled before it began", ""))
        for host, operation in list(self._under_way.items()):
            try:
                self._operations.cancel(operation, self._batch.principal)
            except NotFound:
                self._look(host, operation)

    def _note(self, row: Row) -> None:
        self._batch.rows[row.host] = row


def _failed(host: str, subject: str, fact: str, remedy: str) -> Row:
    return Row(host, Progress.FAILED, reason(host, subject, fact), remedy)


def _row(host: str, operation: Operation) -> Row:
    if operation.state is OperationState.FAILED:
        problem = operation.problem or ProblemDocument()
        return _failed(host, problem.subject, problem.fact, problem.remedy)
    text = operation.steps[-1] if operation.steps else ""
    done = operation.state is OperationState.DONE
    return Row(host, Progress.DONE if done else Progress.RUNNING, text)
