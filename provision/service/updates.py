"""Updates of images in two slots: what hosts say of them, what they are told, and the bytes that they fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

from provision.api import hosts as api
from provision.boot import Channel
from provision.denial import Denial
from provision.errors import Conflict, Denied, Gone, NotFound, TooMany, Unavailable
from provision.host import Chain, Host
from provision.media.layout import FileEntry
from provision.media.library import BaseImage
from provision.principal import Principal
from provision.service.alive import Alive, Message
from provision.service.core import Core
from provision.service.denial_limiter import reporting, updating
from provision.service.left_slots import LeftSlots
from provision.service.news import News
from provision.service.progress import Tracker
from provision.service.site_keys import SiteKeys
from provision.service.update_requests import Asked, Describe, Part
from provision.site_key import KeyUse
from provision.slots import Doing, Failure, HostSlots, SlotReport, parse
from provision.state_rules import unsound
from provision.update import KernelFiles, SlotFile, Update, UpdateFile, encode
from provision.update_rules import Updating, objection, revoked, unsigned

if TYPE_CHECKING:  # `provision status` needs what stands here, and not what builds media
    from provision.service.media_builder import MediaBuilder

PART = 1 << 20
"""Bytes that one answer has at most."""
_PLACES, _BESIDE_BOOTS = 4, 1
_BOOTING, _LOOKED = timedelta(seconds=10), timedelta(seconds=1)
_BUSY_SECONDS = 2
_SLOW, _LONGEST_REST = timedelta(seconds=5), timedelta(minutes=10)
UPDATE, HEARD = "update", "heard"


@dataclass(frozen=True)
class Parts:
    """What updates stand on."""

    core: Core
    tracker: Tracker
    keys: SiteKeys
    builder: MediaBuilder


class Updates:
    """Follows hosts with two slots, tells them what to run, and gives it to them, a few at a time."""

    def __init__(self, parts: Parts) -> None:
        self._core, self._tracker, self._keys, self._builder = parts.core, parts.tracker, parts.keys, parts.builder
        self._asked, self._left = Alive(), LeftSlots(parts.core)
        self._served: set[str] = set()
        self._resting: dict[str, datetime] = {}
        # Whether hosts boot, and when somebody last looked: every part asks.
        self._booting: tuple[datetime | None, bool] = (None, False)
        self._lock = Lock()

    def said(self, message: Message, now: datetime, news: News) -> str:
        """Take note of what a host says of its slots in a genuine message. Returns what it is to do, "" for nothing.

        Raises Invalid, and as `news` does.
        """
        report = parse(message.slots)
        if report is None:
            self._left.silent(message, now, news)
            return ""
        self._left.spoke(message.host)
        known = self._core.store.slots.of(message.host)
        if known is None or known.said != message.slots:
            with news.of(message):
                self._changed(message.host, message.slots, report, now)
        if report.doing is Doing.TRYING:
            return HEARD
        if self._objection(message.host, now) is not None:
            return ""
        keys = (key.public.hex() for key in self._keys.trusted(KeyUse.SIGNING))
        return " ".join((UPDATE, *keys))

    def _changed(self, host: str, said: str, report: SlotReport, now: datetime) -> None:
        core = self._core
        # A host whose slots were forgotten knows by itself in which attempt an image has failed.
        first = HostSlots(said, now, max(1, report.attempt))
        known, there = core.store.slots.of(host) or first, frozenset(core.bases().values())
        proven = report.coming if report.is_proven else ""
        # Only what there is can be given to the host again; it may make up any number of others.
        failed = {id_: one for id_, one in known.failed.items() if id_ != proven and id_ in there}
        if report.doing is Doing.FAILED:
            earlier = failed.get(report.version)
            if report.version in there and (earlier is None or earlier.attempt < report.attempt):
                # What it says first is why; after it has started again it only knows that it has failed.
                failed[report.version] = Failure(report.attempt, report.reason, now)
            core.alerts.raise_(host, "update-failed", f"its update failed: {report.reason}", now)
        if report.doing is Doing.REFUSED:
            core.alerts.raise_(host, "update-refused", f"it has refused an update: {report.reason}", now)
        with self._act(host, report):
            core.store.slots.put(host, HostSlots(said, now, known.attempt, failed))
        core.witness()

    def _act(self, host: str, report: SlotReport) -> AbstractContextManager[None]:
        base = (report.version or report.running_version)[:16]
        if report.doing is Doing.FAILED:
            return self._core.act("update-failed", None, host=host, base=base, reason=report.reason)
        if report.doing is Doing.REFUSED:
            return self._core.act("update-refused", None, host=host, reason=report.reason)
        return self._core.act("update-state", None, host=host, base=base, kind=report.doing.value)

    def _wanted(self, host: Host) -> str:
        """The id of the base image that the host should run; "" for one that is not imported."""
        name = self._core.base_name_of(host)
        return self._core.bases().get(name, "") if name else ""

    def _objection(self, name: str, now: datetime) -> Denial | None:
        core, host, ground = self._core, self._core.hosts[name], self._core.ground
        heard, limit = core.alive.heard(name), timedelta(seconds=core.site.policy.alive_seconds)
        is_up = heard is not None and abs(now - heard) < limit
        asks = Updating(name, is_up, core.store.slots.of(name), self._wanted(host))
        found = unsound(name, ground.distrust, ground.behind) or objection(asks)
        if found is None and host.chain is Chain.UKI:
            base = core.base_name_of(host) or ""
            if not core.payloads.is_signed(host):
                return unsigned(name, base)
            if core.store.image_versions.is_revoked(asks.wanted):
                return revoked(name, base)
        return found

    def describe(self, asked: Asked, wish: Describe, channel: Channel | None) -> bytes:
        """What the host should run, signed for its nonce. Raises Denied, Invalid and Unavailable."""
        core, host = self._core, self.admit(asked, channel)
        base, slots = core.base_of(host), core.store.slots.of(host.name)
        assert slots is not None  # noqa: S101  (else it is not admitted)
        _, key = self._keys.signing()
        update = Update(
            host=host.name,
            site=core.site.domain,
            version=base.id,
            sequence=core.store.database.generation,
            attempt=slots.attempt,
            nonce=wish.nonce,
            reboot=host.update.reboot,
            content=self._content(host, base),
        )
        said = {"time": core.clock(), "event": "update-released", "host": host.name, "image": base.name}
        said |= {"base": base.id[:16], "version": slots.attempt, "channel": str(channel) if channel else None}
        core.audit.record(said, bound=updating(host.name))
        return encode(update, key)

    def _content(self, host: Host, base: BaseImage) -> KernelFiles | SlotFile:
        if host.chain is Chain.UKI:
            return SlotFile(_described(self._builder.signed.slot(host)))
        arguments = " ".join(self._builder.arguments(host, base, seedless=True))
        return KernelFiles(arguments, _described(base.kernel), tuple(map(_described, base.initrds)))

    def part(self, host: Host, wish: Part) -> bytes:
        """Some bytes of a file of the image that the host should run, at least one before its end. Raises Gone for
        another image, NotFound, and Unavailable."""
        base = self._core.base_of(host)
        if base.id != wish.version:
            raise Gone(host.name, "another image is due for it by now", "ask again")
        entry = self._file(host, base, wish.file)
        try:
            with entry.path.open("rb") as file:
                return os.pread(file.fileno(), PART, wish.start)
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            raise Unavailable(f"base image {base.name}", fact, "import it again") from None

    def _file(self, host: Host, base: BaseImage, asked: str) -> FileEntry:
        name, _, number = asked.partition("/")
        if (name == "slot") is not (host.chain is Chain.UKI):
            raise NotFound(host.name, f"is given no file '{asked}'", "see its description")
        if name == "slot":
            return self._builder.signed.slot(host)
        files = base.initrds[int(number) :] if name == "initrd" else (base.kernel,)
        if not files:
            raise NotFound(f"base image {base.name}", f"has no initrd {number}", "see its description")
        return files[0]

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """One host's place among those that are sent bytes now: one for each host, and next to none while hosts boot.
        Who has taken long gives way to others for ten times as long. Raises TooMany.
        """
        most, begun = _BESIDE_BOOTS if self._is_booting() else _PLACES, self._core.clock()
        with self._lock:
            rests = begun < self._resting.get(host, begun) <= begun + _LONGEST_REST
            if rests or host in self._served or len(self._served) >= most:
                raise TooMany("update", "others are served first", "ask again", _BUSY_SECONDS)
            self._served.add(host)
        try:
            yield
        finally:
            now = self._core.clock()
            with self._lock:
                self._served.discard(host)
                self._resting.pop(host, None)
                if now - begun >= _SLOW:
                    self._resting[host] = now + min(10 * (now - begun), _LONGEST_REST)

    def _is_booting(self) -> bool:
        now, (looked, booting) = self._core.clock(), self._booting
        if looked is None or abs(now - looked) >= _LOOKED:
            booting = any(one.boot.up is None and now - one.seen < _BOOTING for one in self._tracker.all().values())
            self._booting = now, booting
        return booting

    def admit(self, asked: Asked, channel: Channel | None) -> Host:
        """The host that asks, when it is up and has to be updated. Raises Denied."""
        core, now = self._core, self._core.clock()
        known = asked.host if asked.host in core.hosts else None
        key = core.store.keys.alive(known, asked.boot).reveal() if known else b""
        genuine = known and asked.is_genuine(key)
        heard = Message(asked.host, asked.boot, asked.run, asked.sequence, True, asked.tag)
        if not genuine or not self._asked.take(heard, now):
            fact = "was asked for before" if genuine else "is not asked for with the key of that boot"
            refusal = Denial("alive", "update", fact, "See docs/media-format.md")
        else:
            found = self._objection(asked.host, now)
            if found is None:
                return core.hosts[asked.host]
            refusal = found
        where = str(channel) if channel else None
        refused = {"time": now, "event": "update", "host": known, "channel": where, "answer": "denied"}
        core.audit.record(refused | {"rule": refusal.rule}, bound=reporting(where))
        core.tally.refused(refusal.rule, where or "")
        raise Denied("update", refusal.reason, refusal.remedy, refusal.rule)

    def retry(self, name: str, principal: Principal) -> api.HostSlots:
        """Let the host try the version again that failed on it. Raises NotFound, and Conflict when none has."""
        core = self._core
        core.seen(name, principal)
        with core.lock:
            known = core.store.slots.of(name)
            if known is None or not known.failed:
                raise Conflict(name, "no update has failed on it", "see 'provision status'")
            with core.act("update-retried", principal, host=name, version=known.attempt + 1):
                core.store.slots.put(name, replace(known, attempt=known.attempt + 1))
            core.witness()
            shown = shown_slots(core, name)
        assert shown is not None  # noqa: S101  (it is there)
        return shown


def shown_slots(core: Core, name: str) -> api.HostSlots | None:
    """What a host said of its slots, for operators."""
    known = core.store.slots.of(name)
    if known is None:
        return None
    report, names = known.report, {id_: image for image, id_ in core.bases().items()}
    return api.HostSlots(
        running=report.running,
        default=report.default,
        a=report.a or None,
        b=report.b or None,
        image=names.get(report.running_version),
        doing=report.doing.value,
        version=report.version or None,
        reason=report.reason or None,
        reported=known.reported.isoformat(),
        failed=tuple(
            api.FailedVersion(
                version=id_,
                image=names.get(id_),
                reason=one.reason,
                at=one.at.isoformat(),
                retried=one.attempt < known.attempt,
            )
            for id_, one in sorted(known.failed.items())
        ),
    )


def _described(file: FileEntry) -> UpdateFile:
    return UpdateFile(file.size, file.sha256)
