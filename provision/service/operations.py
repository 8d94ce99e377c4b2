"""Operations: work that takes minutes, such as switching a machine or an import. Each has a thread, an id, and an end.

They are kept in memory: what must be put right after a crash is not theirs to know, and of an id from before it nobody
knows anything any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from provision.api import operations as api
from provision.api.operations import OperationState
from provision.api.problem import ProblemDocument
from provision.errors import Conflict, Denied, NotFound, ProvisionError
from provision.principal import Principal, PrincipalRole
from provision.service.core import Core

MOST_RUNNING, MOST_OF_ONE = 32, 16
"""Operations at a time that wait for somebody else nearly all of their time, in all and of one principal: whoever sees
a few hosts leaves room for the others'."""
MOST_WORKING = 4
"""Of those that work themselves: they read a disk as fast as it goes."""
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
class Order:
    """What is to be done, to a host or else to an image, and so to the whole site. Who cancels it has the `role`.

    Of operations that wait for others there is one for each host. One that is `work` has a place of its own, beside
    them; it is the same as another one of its kind, which who asks again `joins`, or has to wait for.
    """

    kind: str
    host: str | None = None
    image: str | None = None
    role: PrincipalRole = PrincipalRole.OPERATOR
    work: bool = False
    joins: bool = False

    @property
    def subject(self) -> str:
        """What it is done to."""
        return self.host or self.image or "operation"

    def excludes(self, other: Order) -> bool:
        """Whether the two do not run at a time."""
        same = (self.host, self.image, self.work) == (other.host, other.image, other.work)
        return same and (not self.work or self.kind == other.kind)


@dataclass(frozen=True)
class _Known:
    """An operation as it was at one moment."""

    id: str
    order: Order
    by: str
    started: datetime
    state: OperationState = OperationState.RUNNING
    ended: datetime | None = None
    steps: tuple[str, ...] = ()
    progress: api.OperationProgress | None = None
    result: api.Result | None = None
    problem: ProblemDocument | None = None


@dataclass
class Running:
    """What the work of an operation uses: it says what it has done, and waits."""

    id: str
    subject: str
    say: Callable[[str], None]
    _note: Callable[[str, float], None]
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _undoing: bool = False

    def progress(self, stage: str, fraction: float) -> None:
        """How far it is; raises Cancelled like `pause`."""
        self._note(stage, fraction)
        self.pause(0)

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled when somebody cancels the operation meanwhile, or has before."""
        if self._undoing:
            time.sleep(seconds)
        elif self._cancelled.wait(seconds):
            raise Cancelled(self.subject, "the operation was cancelled", "begin it again when it is wanted")

    def undo(self) -> None:
        """From now on what was done is undone, which nobody cancels."""
        self._undoing = True

    def cancel(self) -> None:
        """Let `pause` raise."""
        self._cancelled.set()


Work = Callable[[Running], "api.Result | None"]
"""What an operation does; it returns what came of it, if anything did beside what it has said."""


class Operations:
    """Every operation that runs, and those that ended lately."""

    def __init__(self, core: Core) -> None:
        self._core, self._clock = core, core.clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._running: dict[str, tuple[Running, threading.Thread]] = {}

    def begin(self, kind: str, host: str, principal: Principal, work: Work) -> api.Operation:
        """Begin `work` for a host; raises Conflict when there are too many, or one for the host already."""
        return self.start(Order(kind, host), principal, work)

    def start(self, order: Order, principal: Principal, work: Work) -> api.Operation:
        """Begin `work`, or join what does the same. Raises Conflict when there are too many, or it has to wait."""
        id_ = secrets.token_hex(6)
        running = Running(id_, order.subject, lambda text: self._say(id_, text), partial(self._note, id_))
        thread = threading.Thread(target=self._run, args=(running, work), name=f"operation {id_}", daemon=True)
        with self._lock:
            if (same := self._same(order)) is not None:
                return _shown(same)
            self._require_room(order, principal.name)
            self._known[id_] = _Known(id_, order, principal.name, self._clock())
            self._running[id_] = running, thread
            self._forget_old()
            thread.start()
            return _shown(self._known[id_])

    def _same(self, order: Order) -> _Known | None:
        """What runs and does the same; raises Conflict when it is not to be joined."""
        for known in map(self._known.__getitem__, self._running):
            if order.excludes(known.order):
                if order.joins:
                    return known
                fact = f"operation {known.id} ({known.order.kind}) is under way"
                raise Conflict(order.subject, fact, "wait for its end, or cancel it")
        return None

    def _require_room(self, order: Order, by: str) -> None:
        alike = [self._known[id_].by for id_ in self._running if self._known[id_].order.work is order.work]
        most = MOST_WORKING if order.work else MOST_RUNNING
        if len(alike) >= most:
            raise Full("operations", f"{most} are under way", "wait for the end of one")
        if alike.count(by) >= MOST_OF_ONE:
            raise Full("operations", f"{MOST_OF_ONE} of {by} are under way", "wait for the end of one")

    def _forget_old(self) -> None:
        ended = [id_ for id_ in self._known if id_ not in self._running]
        for id_ in ended[: max(0, len(ended) - _KEPT)]:
            del self._known[id_]

    def get(self, id_: str, principal: Principal) -> api.Operation:
        """An operation; raises NotFound for one that the principal does not see, as for one that is not there."""
        return _shown(self._seen(id_, principal))

    def listing(self, principal: Principal) -> list[api.Operation]:
        """Every operation that the principal sees, the oldest first."""
        with self._lock:
            known = list(self._known.values())
        return [_shown(one) for one in known if self._is_seen(one.order, principal)]

    def running(self, principal: Principal) -> dict[str, api.Operation]:
        """What is under way with each host that the principal sees."""
        return {
            one.host: one
            for one in self.listing(principal)
            if one.host is not None and one.state is OperationState.RUNNING
        }

    def latest(self, host: str, principal: Principal) -> api.Operation | None:
        """The last operation that was begun for the host, if it is remembered; raises NotFound for the host."""
        self._core.seen(host, principal)
        with self._lock:
            known = [known for known in self._known.values() if known.order.host == host]
        return _shown(known[-1]) if known else None

    def cancel(self, id_: str, principal: Principal) -> None:
        """Let an operation end, and undo what it can; harmless when it has ended. Raises NotFound, and Denied for
        whoever could not have begun it."""
        known = self._seen(id_, principal)
        if not principal.may(known.order.role):
            fact = f"has the role {principal.role}, and cancelling this takes {known.order.role}"
            raise Denied(principal.name, fact, f"ask somebody with the role {known.order.role}", "role")
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
                if (order := self._known[id_].order).host == host and order.kind.startswith(kind)
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

    def _is_seen(self, order: Order, principal: Principal) -> bool:
        """Whether it concerns a host that the principal sees, or they see all of the site."""
        if order.host is None:
            return not principal.selector
        host = self._core.hosts.get(order.host)
        return host is not None and principal.sees(host.labels)

    def _seen(self, id_: str, principal: Principal) -> _Known:
        with self._lock:
            known = self._known.get(id_)
        if known is None or not self._is_seen(known.order, principal):
            fact = "there is none of this id: it has ended long ago, or the service has been restarted since"
            raise NotFound(f"operation {id_}", fact, "see what has come of it, and begin it again when it is wanted")
        return known

    def _say(self, id_: str, text: str) -> None:
        with self._lock:
            known = self._known[id_]
            self._known[id_] = replace(known, steps=(*known.steps, text)[-MOST_STEPS:])

    def _note(self, id_: str, stage: str, fraction: float) -> None:
        progress = api.OperationProgress(stage=stage, fraction=round(min(1.0, max(0.0, fraction)), 4))
        with self._lock:
            self._known[id_] = replace(self._known[id_], progress=progress)

    def _run(self, running: Running, work: Work) -> None:
        problem = result = None
        try:
            result = work(running)
        except ProvisionError as error:
            problem = ProblemDocument.of(error)
        except Exception as error:  # its message could hold anything
            _log.error("internal error (%s) in operation %s", type(error).__name__, running.id)
            fact = f"an internal error ({type(error).__name__})"
            problem = ProblemDocument.of(ProvisionError(running.subject, fact, "look at the service's log"))
        state = OperationState.DONE if problem is None else OperationState.FAILED
        with self._lock:
            known = self._known[running.id]
            ended = replace(known, state=state, result=result, problem=problem, ended=self._clock())
            self._known[running.id] = ended
            del self._running[running.id]


def _shown(known: _Known) -> api.Operation:
    return api.Operation(
        id=known.id,
        kind=known.order.kind,
        host=known.order.host,
        image=known.order.image,
        by=known.by,
        state=known.state,
        started=known.started.isoformat(),
        ended=known.ended.isoformat() if known.ended else None,
        steps=known.steps,
        progress=known.progress,
        result=known.result,
        problem=known.problem,
    )
