"""Operations: work that takes minutes, such as switching a machine or an import. Each has a thread, an id, and an end.

They are kept in memory: what must be put right after a crash is not theirs to know, and of an id from before it nobody
knows anything any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from provision.api import operations as api
from provision.api.operations import OperationState
from provision.api.problem import ProblemDocument
from provision.errors import Conflict, Denied, NotFound, ProvisionError, Unavailable
from provision.principal import Principal, PrincipalRole
from provision.service.core import Core

MOST_RUNNING, MOST_OF_ONE = 32, 16
"""Operations at a time that wait for somebody else nearly all of their time, in all and of one principal: whoever sees
a few hosts leaves room for the others'."""
MOST_WORKING, MOST_WORKING_OF_ONE = 4, 3
"""The same of those that work themselves: they read a disk as fast as it goes."""
MOST_STEPS, MOST_WAITING = 200, 200
"""Steps that are remembered of an operation, and those who wait for it."""
_KEPT = 200
"""Operations that are remembered after their end; of more, the oldest of whoever has most goes."""
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
    them; it is the same as another one of its kind, which who asks again `joins`, or has to wait for. What is joined
    is of one `version` of the host or image: of another one there is another operation.
    """

    kind: str
    host: str | None = None
    image: str | None = None
    role: PrincipalRole = PrincipalRole.OPERATOR
    work: bool = False
    joins: bool = False
    version: str = ""

    @property
    def subject(self) -> str:
        """What it is done to."""
        return self.host or self.image or "operation"

    def excludes(self, other: Order) -> bool:
        """Whether the two do not run at a time."""
        same = (self.host, self.image, self.work) == (other.host, other.image, other.work)
        return same and (not self.work or (self.kind, self.version) == (other.kind, other.version))


@dataclass(frozen=True)
class _Known:
    """An operation as it was at one moment. `wanted` has whoever began or joined it, as often as they did and have
    not left."""

    id: str
    order: Order
    by: str
    wanted: tuple[Principal, ...]
    started: datetime
    state: OperationState = OperationState.RUNNING
    ended: datetime | None = None
    cancelled: bool = False
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
    _wanted: Callable[[], tuple[Principal, ...]]
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _undoing: bool = False

    def progress(self, stage: str, fraction: float) -> None:
        """How far it is; raises Cancelled like `pause`."""
        self._note(stage, fraction)
        self.pause(0)

    @property
    def wanted(self) -> tuple[Principal, ...]:
        """Who waits for it."""
        return self._wanted()

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled when somebody cancels the operation meanwhile, or has before."""
        if self._undoing:
            time.sleep(seconds)
        elif self._cancelled.wait(seconds):
            raise Cancelled(
                self.subject, "the operation was cancelled", "check its result, and start it again if needed"
            )

    def undo(self) -> None:
        """From now on what was done is undone, which nobody cancels."""
        self._undoing = True

    def cancel(self) -> None:
        """Let `pause` raise."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has."""
        return self._cancelled.is_set()


Work = Callable[[Running], "api.Result | None"]
"""What an operation does; it returns what came of it, if anything did beside what it has said."""


class Operations:
    """Every operation that runs, and those that ended lately."""

    def __init__(self, core: Core) -> None:
        self._core, self._clock = core, core.clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._running: dict[str, tuple[Running, threading.Thread]] = {}
        self._changing: set[str] = set()

    def begin(self, kind: str, host: str, principal: Principal, work: Work) -> api.Operation:
        """Begin `work` for a host; raises Conflict when there are too many, or one for the host already."""
        return self.start(Order(kind, host), principal, work)

    def start(self, order: Order, principal: Principal, work: Work) -> api.Operation:
        """Begin `work`, or join what does the same. Raises Conflict when there are too many, or it has to wait, and
        Unavailable when this process has no thread for it."""
        id_ = secrets.token_hex(6)
        running = Running(id_, order.subject, partial(self._say, id_), partial(self._note, id_), lambda: self._of(id_))
        thread = threading.Thread(target=self._run, args=(running, work), name=f"operation {id_}", daemon=True)
        with self._lock:
            if (same := self._same(order)) is not None:
                return _shown(self._join(same, principal))
            self._require_room(order, principal.name)
            try:
                thread.start()  # what it says waits for the lock
            except RuntimeError:
                raise Unavailable("operations", "there is no thread for another one", "try again in a moment") from None
            self._known[id_] = _Known(id_, order, principal.name, (principal,), self._clock())
            self._running[id_] = running, thread
            self._forget_old()
            return _shown(self._known[id_])

    def _join(self, known: _Known, principal: Principal) -> _Known:
        self._known[known.id] = replace(known, wanted=(*known.wanted, principal)[-MOST_WAITING:])
        return self._known[known.id]

    def _of(self, id_: str) -> tuple[Principal, ...]:
        with self._lock:
            return self._known[id_].wanted

    @contextmanager
    def none_for(self, host: str) -> Iterator[None]:
        """Let no operation for the host begin that waits for others within this context; raises Conflict while there
        is one. Nobody waits for it: the disk may be slow."""
        with self._lock:
            self._same(Order("change", host))
            self._changing.add(host)
        try:
            yield
        finally:
            with self._lock:
                self._changing.discard(host)

    def _same(self, order: Order) -> _Known | None:
        """What runs and does the same; raises Conflict when it is not to be joined."""
        if order.host in self._changing and not order.work:
            raise Conflict(order.subject, "its BMC is being changed", "try again in a moment")
        for id_, (running, _) in self._running.items():
            known = self._known[id_]
            if order.excludes(known.order):
                if order.joins:
                    if running.is_cancelled:
                        continue  # nothing comes of it
                    return known
                fact = f"operation {known.id} ({known.order.kind}) is under way"
                raise Conflict(order.subject, fact, "wait for its end, or cancel it")
        return None

    def _require_room(self, order: Order, by: str) -> None:
        alike = [self._known[id_].by for id_ in self._running if self._known[id_].order.work is order.work]
        most = MOST_WORKING if order.work else MOST_RUNNING
        if len(alike) >= most:
            raise Full("operations", f"{most} are under way", "wait for the end of one")
        most = MOST_WORKING_OF_ONE if order.work else MOST_OF_ONE
        if alike.count(by) >= most:
            raise Full("operations", f"{most} of {by} are under way", "wait for the end of one")

    def _forget_old(self) -> None:
        makers = {id_: known.by for id_, known in self._known.items() if id_ not in self._running}
        for id_ in forgotten(makers, _KEPT):
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
        """Let an operation end, and undo what it can; harmless when it has ended. One that others wait for, too, goes
        on without the principal, if they are one of those. Raises NotFound, and Denied for whoever could not have
        begun it."""
        known = self._seen(id_, principal)
        if not principal.may(known.order.role):
            fact = f"has the role {principal.role}, and cancelling this takes {known.order.role}"
            raise Denied(principal.name, fact, f"ask somebody with the role {known.order.role}", "role")
        with self._lock:
            if id_ in self._running and not self._leave(id_, principal.name):
                self._cancel(id_)

    def _leave(self, id_: str, by: str) -> bool:
        """Let one of `by` wait for it no longer; False when nobody else does, or `by` did not."""
        wanted = list(self._known[id_].wanted)
        names = [one.name for one in wanted]
        if by in names and len(names) > 1:
            del wanted[names.index(by)]
            self._known[id_] = replace(self._known[id_], wanted=tuple(wanted))
            return True
        return False

    def cancel_of(self, host: str, kind: str) -> int:
        """Let every operation for `host` end whose kind begins with `kind`, and say how many there are."""
        with self._lock:
            orders = {id_: self._known[id_].order for id_ in self._running}
            found = [id_ for id_, order in orders.items() if order.host == host and order.kind.startswith(kind)]
            for id_ in found:
                self._cancel(id_)
        return len(found)

    def _cancel(self, id_: str) -> None:
        self._known[id_] = replace(self._known[id_], cancelled=True)
        self._running[id_][0].cancel()

    def stop(self) -> None:
        """Cancel all, and wait a little for them to put things right."""
        with self._lock:
            running = list(self._running.values())
            for id_ in self._running:
                self._cancel(id_)
        end = time.monotonic() + _END_SECONDS
        for _, thread in running:
            thread.join(max(0.0, end - time.monotonic()))

    def _is_seen(self, order: Order, principal: Principal) -> bool:
        """Whether it concerns a host that the principal sees, or they see all of the site: also one whose host is
        gone meanwhile."""
        host = self._core.hosts.get(order.host) if order.host is not None else None
        return principal.sees(host.labels) if host is not None else not principal.selector

    def _seen(self, id_: str, principal: Principal) -> _Known:
        with self._lock:
            known = self._known.get(id_)
        if known is None or not self._is_seen(known.order, principal):
            fact = "there is none of this id: it has ended long ago, or the service has been restarted since"
            raise NotFound(f"operation {id_}", fact, "check its result, and start it again if needed")
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


def forgotten(makers: Mapping[str, str], kept: int) -> list[str]:
    """Which of what has ended, the oldest first, is no longer remembered, by who made it: whoever makes many makes
    nobody else's forgotten."""
    left, gone = dict(makers), list[str]()
    while len(left) > kept:
        ((most, _),) = Counter(left.values()).most_common(1)
        gone.append(next(id_ for id_, by in left.items() if by == most))
        del left[gone[-1]]
    return gone


def _shown(known: _Known) -> api.Operation:
    return api.Operation(
        id=known.id,
        kind=known.order.kind,
        host=known.order.host,
        image=known.order.image,
        by=known.by,
        state=known.state,
        cancelled=known.cancelled,
        started=known.started.isoformat(),
        ended=known.ended.isoformat() if known.ended else None,
        steps=known.steps,
        progress=known.progress,
        result=known.result,
        problem=known.problem,
    )
