"""Operations: work that takes minutes, such as switching a machine. Each has a thread, an id, and an end.

They are kept in memory: what must be put right after a crash is not theirs to know.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from provision.api import operations as api
from provision.api.operations import OperationState
from provision.api.problem import ProblemDocument
from provision.errors import Conflict, NotFound, ProvisionError
from provision.principal import Principal
from provision.service.core import Core

MOST_RUNNING, MOST_OF_ONE = 32, 16
"""Operations at a time, in all and of one principal: each waits for somebody else nearly all of its time, and whoever
sees a few hosts leaves room for the others'."""
MOST_STEPS = 200
_KEPT = 200
"""Operations that are remembered after their end."""
_END_SECONDS = 20.0
"""How long the end of the service waits for operations to put things right."""

_log = logging.getLogger(__name__)


class Full(Conflict):
    """As many operations as there may be are under way."""


class Cancelled(Conflict):
    """Somebody has cancelled the operation, or the service ends."""


@dataclass(frozen=True)
class _Known:
    """An operation as it was at one moment."""

    id: str
    kind: str
    host: str
    by: str
    started: datetime
    state: OperationState = OperationState.RUNNING
    ended: datetime | None = None
    steps: tuple[str, ...] = ()
    problem: ProblemDocument | None = None


@dataclass
class Running:
    """What the work of an operation uses: it says what it has done, and waits."""

    id: str
    host: str
    say: Callable[[str], None]
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _undoing: bool = False

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled when somebody cancels the operation meanwhile, or has before."""
        if self._undoing:
            time.sleep(seconds)
        elif self._cancelled.wait(seconds):
            raise Cancelled(self.host, "the operation was cancelled", "begin it again when it is wanted")

    def undo(self) -> None:
        """From now on what was done is undone, which nobody cancels."""
        self._undoing = True

    def cancel(self) -> None:
        """Let `pause` raise."""
        self._cancelled.set()


Work = Callable[[Running], None]


class Operations:
    """Every operation that runs, and those that ended lately."""

    def __init__(self, core: Core) -> None:
        self._core, self._clock = core, core.clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._running: dict[str, tuple[Running, threading.Thread]] = {}

    def begin(self, kind: str, host: str, principal: Principal, work: Work) -> api.Operation:
        """Begin `work`; raises Conflict when there are too many, or one for the host already."""
        id_ = secrets.token_hex(6)
        running = Running(id_, host, lambda text: self._say(id_, text))
        thread = threading.Thread(target=self._run, args=(running, work), name=f"operation {id_}", daemon=True)
        with self._lock:
            self._require_room(host, principal.name)
            self._known[id_] = _Known(id_, kind, host, principal.name, self._clock())
            self._running[id_] = running, thread
            self._forget_old()
            thread.start()
            return _shown(self._known[id_])

    def _require_room(self, host: str, by: str) -> None:
        for id_ in self._running:
            if self._known[id_].host == host:
                fact = f"operation {id_} ({self._known[id_].kind}) is under way"
                raise Conflict(host, fact, "wait for its end, or cancel it")
        if len(self._running) >= MOST_RUNNING:
            raise Full("operations", f"{MOST_RUNNING} are under way", "wait for the end of one")
        if sum(self._known[id_].by == by for id_ in self._running) >= MOST_OF_ONE:
            raise Full("operations", f"{MOST_OF_ONE} of {by} are under way", "wait for the end of one")

    def _forget_old(self) -> None:
        ended = [id_ for id_ in self._known if id_ not in self._running]
        for id_ in ended[: max(0, len(ended) - _KEPT)]:
            del self._known[id_]

    def get(self, id_: str, principal: Principal) -> api.Operation:
        """An operation; raises NotFound for one that the principal does not see, as for one that is not there."""
        return _shown(self._seen(id_, principal))

    def listing(self, principal: Principal) -> list[api.Operation]:
        """Every operation for a host that the principal sees, the oldest first."""
        names = {host.name for host in self._core.visible(principal)}
        with self._lock:
            return [_shown(known) for known in self._known.values() if known.host in names]

    def running(self, principal: Principal) -> dict[str, api.Operation]:
        """What is under way with each host that the principal sees."""
        return {one.host: one for one in self.listing(principal) if one.state is OperationState.RUNNING}

    def latest(self, host: str, principal: Principal) -> api.Operation | None:
        """The last operation that was begun for the host, if it is remembered; raises NotFound for the host."""
        self._core.seen(host, principal)
        with self._lock:
            known = [known for known in self._known.values() if known.host == host]
        return _shown(known[-1]) if known else None

    def cancel(self, id_: str, principal: Principal) -> None:
        """Let an operation end, and undo what it can; harmless when it has ended. Raises NotFound."""
        known = self._seen(id_, principal)
        with self._lock:
            running = self._running.get(known.id)
        if running is not None:
            running[0].cancel()

    def cancel_of(self, host: str, kind: str) -> int:
        """Let every operation for `host` end whose kind begins with `kind`, and say how many there are."""
        with self._lock:
            found = [
                running
                for id_, (running, _) in self._running.items()
                if self._known[id_].host == host and self._known[id_].kind.startswith(kind)
            ]
        for running in found:
            running.cancel()
        return len(found)

    def stop(self) -> None:
        """Cancel all, and wait a little for them to put things right."""
        with self._lock:
            running = list(self._running.values())
        for one, _ in running:
            one.cancel()
        end = time.monotonic() + _END_SECONDS
        for _, thread in running:
            thread.join(max(0.0, end - time.monotonic()))

    def _seen(self, id_: str, principal: Principal) -> _Known:
        with self._lock:
            known = self._known.get(id_)
        host = self._core.hosts.get(known.host) if known is not None else None
        if known is None or host is None or not principal.sees(host.labels):
            raise NotFound(
                f"operation {id_}", "there is none of this id", "it may have ended long ago, or before a restart"
            )
        return known

    def _say(self, id_: str, text: str) -> None:
        with self._lock:
            known = self._known[id_]
            self._known[id_] = replace(known, steps=(*known.steps, text)[-MOST_STEPS:])

    def _run(self, running: Running, work: Work) -> None:
        problem = None
        try:
            work(running)
        except ProvisionError as error:
            problem = ProblemDocument.of(error)
        except Exception as error:  # its message could hold anything
            _log.error("internal error (%s) in operation %s", type(error).__name__, running.id)
            fact = f"an internal error ({type(error).__name__})"
            problem = ProblemDocument.of(ProvisionError(running.host, fact, "look at the service's log"))
        state = OperationState.DONE if problem is None else OperationState.FAILED
        with self._lock:
            known = self._known[running.id]
            self._known[running.id] = replace(known, state=state, problem=problem, ended=self._clock())
            del self._running[running.id]


def _shown(known: _Known) -> api.Operation:
    return api.Operation(
        id=known.id,
        kind=known.kind,
        host=known.host,
        by=known.by,
        state=known.state,
        started=known.started.isoformat(),
        ended=known.ended.isoformat() if known.ended else None,
        steps=known.steps,
        problem=known.problem,
    )
