"""The append-only audit log: every decision, and what operators did, in a chain that shows any later change.

Whoever gives something away records it first; when `record` raises, the answer is no.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from provision import clock as clocks
from provision.clock import Clock
from provision.errors import Unavailable
from provision.store import chain
from provision.store.chain import Head, Known, VerifyResult
from provision.store.journal import Journal
from provision.store.keys import MasterKey, Purpose

_FIELD_NAMES = """
    time event host medium channel network interface address mac operator answer rule reason remedy override
    revision boot window minutes boots credential kind version image base label selector file sha256
    added changed removed count since subject before accepted
"""
FIELDS = frozenset(_FIELD_NAMES.split())
"""The fields that an event may have. None of them can hold a secret's bytes."""

REPEAT = timedelta(minutes=1)
"""Identical events within this time are written once at once, and once more with their `count`."""

_MAX_TEXT = 512
_MAX_REPEATS = 4096
_JOURNAL_EVERY = 256
_KEEP = "keep the file as evidence, move it aside and start again"


@dataclass
class _Repeat:
    """Repeats of an event that is in the log: when it was first seen, whether it is on disk, and how often since."""

    first: datetime
    fields: dict[str, Any]
    durable: bool
    count: int = 0


@dataclass
class _Tail:
    """The end of the log as it was found: its last line's head, whole bytes, and bytes of a torn line after them."""

    head: Head = chain.START
    size: int = 0
    torn: bytes = field(default=b"", repr=False)
    last: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Audit:
    """The log at `path`, with its head file beside it (`.head`); thread-safe. One process at a time has it open."""

    def __init__(self, path: Path, key: MasterKey, clock: Clock = clocks.now, journal: Journal | None = None) -> None:
        """Open or make the log; what a crash tore is moved to `<path>.torn-N`, and an event says so.

        Raises Unavailable when it cannot be written, or its last line is not what was written.
        """
        self._path, self._head_path = path, path.with_suffix(".head")
        self._key = key.subkey(Purpose.AUDIT)
        self._clock, self._journal = clock, journal or Journal()
        self._lock = threading.Lock()
        self._repeats: OrderedDict[tuple[tuple[str, Any], ...], _Repeat] = OrderedDict()
        self._head, self._size, self._announced, self._due = chain.START, 0, 0, False
        self._known = Known()
        self._log = self._head_file = -1
        try:
            self._log = _open(path, os.O_APPEND)
            self._head_file = _open(self._head_path, 0)
            self._status = os.fstat(self._log)
            self._resume()
        except OSError as error:
            self._release()
            self._fail(f"cannot be opened ({error.strerror})", "make room, and look at its file system")
        except BaseException:
            self._release()
            raise

    @property
    def is_busy(self) -> bool:
        """Whether another thread is writing, so that `record` would wait."""
        return self._lock.locked()

    @property
    def known(self) -> Known | None:
        """What the log knows of the store, as it was found or witnessed since; None when there is no log to ask."""
        return replace(self._known, entries=self._size > 0)

    def witness(self, generation: int, mark: datetime) -> None:
        """Learn that the store has committed `generation`, and that it was `mark`; every later entry has the number.

        Nothing is synced: the store's own commit was, and kill -9 takes back nothing. Raises Unavailable.
        """
        self._learn(lambda known: Known(max(generation, known.generation), mark))

    def doubt(self) -> None:
        """Remember, over restarts and until `witness`, that this log cannot say what the store's newest state is."""
        self._learn(lambda known: replace(known, sound=False))

    def _learn(self, change: Callable[[Known], Known]) -> None:
        with self._lock:
            self._check_file()
            self._known = change(self._known)
            try:
                os.pwrite(self._head_file, chain.encode_head(self._key, self._head, self._known), 0)
            except OSError as error:
                self._fail(f"cannot be written ({error.strerror})", "make room, and look at its file system")

    def record(self, event: Mapping[str, Any], durable: bool = False, counted: bool | None = None) -> None:
        """Append an event, of FIELDS with text, numbers or None; `time` is an aware datetime (default: now).

        A durable event is on disk when this returns. `counted` ones that repeat within REPEAT are counted only, and a
        durable one only after one that is on disk; None: all but durable ones.
        Raises Unavailable when it cannot be written, or the file was replaced or cut: then nothing was recorded.
        """
        counted = not durable if counted is None else counted
        now = event.get("time") or self._clock()
        fields = _checked(event)
        with self._lock:
            self._write_repeats(now, everything=False)
            signature = tuple(fields.items())
            repeat = self._repeats.get(signature) if counted else None
            if repeat is not None and (repeat.durable or not durable):
                self._check_file()
                repeat.count += 1
                return
            self._append({"time": _iso(now), **fields}, durable)
            if repeat is not None:
                repeat.durable = True
            elif counted:
                self._repeats[signature] = _Repeat(now, fields, durable)

    def flush(self, now: datetime | None = None) -> None:
        """Write the counts whose minute has ended (`now` None: all), and tell the journal of durable events since the
        last time: a service does this every second, so that who waits for an answer does not wait for the journal.

        Raises Unavailable.
        """
        with self._lock:
            self._write_repeats(now or self._clock(), everything=now is None)
            if self._due:
                self._announce()

    def close(self) -> None:
        """Write what is counted, sync and close; raises Unavailable when that fails. Twice is no error."""
        with self._lock:
            if self._log < 0:
                return
            try:
                self._write_repeats(self._clock(), everything=True)
                os.fsync(self._log)
            except OSError as error:
                self._fail(f"cannot be written ({error.strerror})", "make room, and look at its file system")
            finally:
                self._announce()
                self._release()

    def verify(self, witnesses: Sequence[Head] = ()) -> VerifyResult:
        """Check the whole log up to now, and that the `witnesses` are in it; recording goes on meanwhile.

        Raises Unavailable when it cannot be read.
        """
        with self._lock:
            head, size = self._head, self._size
        return chain.verify(self._path, self._key, [*witnesses, head], size)

    def entries(self, host: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest `limit` entries, of one host or of all, oldest first; without their chains."""
        found: deque[dict[str, Any]] = deque(maxlen=limit)
        for line in chain.lines(self._path, self._size):
            decoded = chain.decode(line)
            if decoded is not None and (host is None or decoded[0].get("host") == host):
                found.append(decoded[0])
        return list(found)

    def _write_repeats(self, now: datetime, everything: bool) -> None:
        while self._repeats:
            signature, repeat = next(iter(self._repeats.items()))
            running = repeat.first <= now < repeat.first + REPEAT
            if running and not everything and len(self._repeats) <= _MAX_REPEATS:
                return
            if repeat.count:
                counted = {"count": repeat.count, "since": _iso(repeat.first)}
                self._append({"time": _iso(now), **repeat.fields, **counted}, durable=False)
            del self._repeats[signature]

    def _append(self, fields: Mapping[str, Any], durable: bool, seq: int | None = None) -> None:
        self._check_file()
        if self._known.generation:
            fields = {**fields, "generation": self._known.generation}
        line, head = chain.encode(self._key, self._head, seq or self._head.seq + 1, fields)
        if len(line) > chain.MAX_LINE:
            self._fail(f"takes no entry of {len(line)} bytes", "shorten its fields")
        try:
            if os.write(self._log, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fdatasync(self._log)
            os.pwrite(self._head_file, chain.encode_head(self._key, head, self._known), 0)
        except OSError as error:
            self._take_back()
            self._fail(f"cannot be written ({error.strerror})", "make room, and look at its file system")
        self._head, self._size = head, self._size + len(line)
        self._due = self._due or durable
        if head.seq % _JOURNAL_EVERY == 0:
            self._announce()

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._log, self._size)
        except OSError:
            # What is left of the line is torn: every later attempt sees the wrong size, and the next start repairs it.
            return

    def _check_file(self) -> None:
        if self._log < 0:
            self._fail("is closed", "start the service again")
        try:
            status = self._path.stat()
        except OSError as error:
            self._fail(f"is gone ({error.strerror})", "start the service again")
        if not os.path.samestat(status, self._status):
            self._fail("was replaced by another file", _KEEP)
        if status.st_size != self._size:
            self._fail(f"has {status.st_size} bytes where {self._size} were written", _KEEP)

    def _announce(self) -> None:
        if self._announced == self._head.seq:
            return
        self._announced, self._due = self._head.seq, False
        seq, mac = str(self._head.seq), self._head.chain
        message = f"audit log {self._path.name}: entry {seq} has chain {mac}"
        self._journal.send(message, {"PROVISION_AUDIT_SEQ": seq, "PROVISION_AUDIT_CHAIN": mac})

    def _release(self) -> None:
        self._journal.close()
        for descriptor in (self._log, self._head_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._head_file = -1

    def _resume(self) -> None:
        """Take up the log where it ends, and say in it what is not as it was left."""
        tail = self._find_tail()
        content = os.pread(self._head_file, 4096, 0)
        told = chain.decode_head(self._key, content)
        self._head, self._size = tail.head, tail.size
        self._known = chain.known(tail.head, tail.last, told, chain.decode_known(self._key, content))
        if tail.torn:
            aside = _set_aside(self._path, tail.torn)
            os.ftruncate(self._log, tail.size)
            os.fsync(self._log)
            self._recovered(f"{len(tail.torn)} bytes of a torn line were moved to {aside.name}", chain.TORN)
        if told is None and tail.size:
            self._recovered("the head file was missing or altered", "head")
        elif told is not None and told.seq > tail.head.seq:
            lost = f"entries {tail.head.seq + 1} to {told.seq} were missing at the end of the log"
            self._recovered(lost, "cut", told.seq + 1)
        elif told is not None and told.seq == tail.head.seq and told != tail.head:
            self._recovered("the log did not end as its head file says", "head")

    def _recovered(self, reason: str, rule: str, seq: int | None = None) -> None:
        fields = {"time": _iso(self._clock()), "event": chain.RECOVERED, "rule": rule, "reason": reason}
        self._append(fields, durable=True, seq=max(seq or 0, self._head.seq + 1))

    def _find_tail(self) -> _Tail:
        size = os.fstat(self._log).st_size
        start = max(0, size - 4 * chain.MAX_LINE)
        block = os.pread(self._log, size - start, start)
        whole = block[: block.rfind(b"\n") + 1]
        torn = block[len(whole) :]
        if not whole and start:
            self._fail("does not end in a line of a log", _KEEP)
        if not whole:
            return _Tail(torn=torn)
        found = whole[:-1].split(b"\n")[-2:]
        last = chain.decode(found[-1])
        before = chain.decode(found[0]) if len(found) == 2 else None
        previous = before[2] if before else chain.START.chain
        if last is None or not chain.follows(self._key, previous, last[1], last[2]):
            self._fail("does not end with the line that was written last", _KEEP)
        return _Tail(Head(last[0]["seq"], last[2]), size - len(torn), torn, last[0])

    def _fail(self, fact: str, remedy: str) -> NoReturn:
        raise Unavailable(str(self._path), f"the audit log {fact}", remedy) from None


class ClosedAudit(Audit):
    """A log that could not be opened, for `error`: it takes nothing, so every answer is no, but it can be looked at."""

    def __init__(self, path: Path, key: MasterKey, error: Unavailable) -> None:
        self._path, self._master, self._error = path, key, error

    @property
    def is_busy(self) -> bool:
        """Never."""
        return False

    @property
    def known(self) -> Known | None:
        """Nothing."""
        return None

    def _learn(self, change: Callable[[Known], Known]) -> None:
        raise self._error

    def record(self, event: Mapping[str, Any], durable: bool = False, counted: bool | None = None) -> None:
        """Raises the error."""
        raise self._error

    def flush(self, now: datetime | None = None) -> None:
        """Nothing is counted."""

    def close(self) -> None:
        """Nothing is open."""

    def verify(self, witnesses: Sequence[Head] = ()) -> VerifyResult:
        """Check the log as it lies there; raises Unavailable when it cannot be read."""
        return verify(self._path, self._master, witnesses)

    def entries(self, host: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Nothing that can be relied on."""
        raise self._error


def verify(path: Path, key: MasterKey, witnesses: Sequence[Head] = ()) -> VerifyResult:
    """Check a log that no process has open against its head file and, if given, what the journal witnessed."""
    audit_key = key.subkey(Purpose.AUDIT)
    try:
        told = chain.decode_head(audit_key, path.with_suffix(".head").read_bytes())
    except OSError:
        told = None
    return chain.verify(path, audit_key, [*witnesses, *([told] if told else [])])


def _checked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without time and without empty fields; raises ValueError for what has no place in a log."""
    fields: dict[str, Any] = {}
    for name, value in event.items():
        if name not in FIELDS:
            raise ValueError(f"the audit log has no field {name!r}")
        if value is None or name == "time":
            continue
        if isinstance(value, str):
            # An enumeration's member counts as its text.
            value = str(value) if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…"
        elif not isinstance(value, int):
            raise ValueError(f"the audit log takes text and numbers, not a {type(value).__name__} in {name!r}")
        fields[name] = value
    return fields


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _open(path: Path, append: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | append, 0o600)
    except OSError as error:
        raise Unavailable(str(path), f"cannot be opened ({error.strerror})", "look at the state directory") from None


def _set_aside(path: Path, torn: bytes) -> Path:
    """Write the bytes to the next free `<path>.torn-N`, durably."""
    number = 1
    while (aside := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    return aside
