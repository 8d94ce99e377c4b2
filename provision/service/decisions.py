"""What the audit log says of decisions, and how much of it an outsider can cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from provision.boot import Channel, ChannelKind, Medium, Requester
from provision.denial import Denial
from provision.host import Host
from provision.policy import Release
from provision.service.denial_limiter import DenialLimiter, is_itself
from provision.service.tally import Tally
from provision.store.audit import Audit, Bound


class Decisions:
    """Records every decision in the audit log, and counts it."""

    def __init__(self, audit: Audit, tally: Tally) -> None:
        self._audit, self._tally, self._limiter = audit, tally, DenialLimiter()
        # What the log has of the releases that are in use, for what follows from them.
        self._events: WeakKeyDictionary[Release, tuple[dict[str, Any], Bound | None]] = WeakKeyDictionary()

    def record(
        self,
        answer: Release | Denial,
        host: Host | None,
        medium: Medium,
        channel: Channel,
        requester: Requester,
        now: datetime,
        *,
        durable: bool,
        counted: bool,
        written: Callable[[Release], None] | None = None,
        later: bool = False,
    ) -> None:
        """Record an answer; raises Unavailable, and then the answer is no. See `Core.decide`."""
        event = _event(host, medium, channel, requester, now)
        # Who has a link's secret is known by it, as a host is by its MAC.
        itself = is_itself(host, requester) or requester.bearer is not None
        if isinstance(answer, Denial):
            event |= {"answer": "denied", "rule": answer.rule, "reason": str(answer)}
            # The host of a refused machine is what it claims, so it may be made up like an address.
            asker = str(event["address"]), requester.mac or "", answer.subject
            if not self._limiter.admit(event["channel"], itself, asker, now):
                others = "too many different machines; these are counted only"
                event |= {"host": None, "address": None, "mac": None, "reason": others}
        else:
            event |= {"answer": "released", "revision": answer.revision[:16]}
        # Denials cost a client nothing, so each of them on disk would let anyone fill it.
        durable = durable and isinstance(answer, Release)
        kind = "released to" if durable else "configured for" if isinstance(answer, Release) else "denied"
        # An operator's acts are told apart, all of them.
        outside = channel.kind is not ChannelKind.OPERATOR or requester.bearer is not None
        name = host.name if host and itself else ""
        bound = self._limiter.bound(event["channel"], name, kind) if outside else None
        begin = partial(written, answer) if written is not None and isinstance(answer, Release) else None
        counted = counted or not durable
        self._audit.record(event, durable=durable, counted=counted, bound=bound, written=begin, later=later)
        self._count(answer, str(medium), event["channel"])
        if isinstance(answer, Release) and durable:
            self._events[answer] = event, bound

    def _count(self, answer: Release | Denial, medium: str, channel: str) -> None:
        if isinstance(answer, Denial):
            self._tally.refused(answer.rule, channel)
        else:
            self._tally.released(medium, channel)

    def gave(self, release: Release, sent: range) -> None:
        """Let the log's count of what like `release` was decided have the bytes that follow from this one."""
        if release in self._events:
            event, bound = self._events[release]
            self._audit.extend(event, sent, bound)

    def forget_hosts(self) -> None:
        """Hosts have changed: keep nothing of those that may be gone."""
        self._limiter.forget()


def _event(host: Host | None, medium: Medium, channel: Channel, requester: Requester, now: datetime) -> dict[str, Any]:
    """What the log says of a decision, whatever it was."""
    bearer = requester.bearer
    address = requester.address if bearer is None else bearer.address
    return {
        "time": now,
        "event": "decision",
        "host": host.name if host else None,
        "medium": str(medium),
        "channel": str(channel),
        "address": str(address) if address else None,
        "mac": requester.mac,
        "operator": requester.principal.name if requester.principal else None,
        "link": bearer.link.id if bearer else None,
    }
