"""The audit log as files: lines are appended and chained, a full file makes room for the next, nothing is written over.

Not thread-safe: `Audit` holds its lock around every call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from provision.clock import Clock
from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import chain, segments, verifying
from provision.store.chain import Head, Known
from provision.store.fields import Entry
from provision.store.journal import Journal
from provision.store.repeats import iso
from provision.store.segments import Limits
from provision.writing import create

_JOURNAL_EVERY = 256
_AGAIN = timedelta(minutes=1)  # between two attempts to begin a new file
_KEEP = "keep the file as evidence, move it aside and start again"
ROOM = "make room, and look at its file system"

Written = Callable[[], None]
"""Begins what can be done while the disk works, in another thread: quick, and raises nothing."""


@dataclass
class _Tail:
    """The end of a file as it was found: its last line's head, whole bytes, bytes of a torn line after them, and the
    last entry."""

    head: Head = chain.START
    size: int = 0
    torn: bytes = field(default=b"", repr=False)
    last: Mapping[str, Any] = field(default_factory=dict, repr=False)


class LogFile:
    """The newest file of the log at `path`, open for appending, and its head file."""

    def __init__(self, path: Path, key: Secret, clock: Clock, journal: Journal, limits: Limits) -> None:
        """Open or make it, and mend what a crash has left. Raises Unavailable."""
        self._path, self._name, self._key, self._clock = path, str(path), key, clock
        self._journal, self._limits = journal, limits
        self.head, self.size, self.grown = chain.START, 0, 0
        self._first, self._old = 1, clock() + limits.age
        self._not_before: datetime | None = None
        self._announced, self._due = 0, False
        self._known = Known()
        self.descriptor = self._head_file = -1
        try:
            self.descriptor = _open(path, os.O_APPEND)
            self._head_file = _open(path.with_suffix(".head"), 0)
            segments.tidy(path)
            self._status = os.fstat(self.descriptor)
            self._resume()
        except OSError as error:
            self.release()
            self.fail(f"cannot be opened ({error.strerror})", ROOM)
        except BaseException:
            self.release()
            raise

    def append(
        self,
        fields: Mapping[str, Any],
        durable: bool,
        seq: int | None = None,
        written: Written | None = None,
        later: bool = False,
    ) -> None:
        """Write an entry; raises Unavailable, and then nothing was written.

        `written` is called between writing a durable one and waiting for the disk. For one that is to be on disk
        `later`, the caller waits by itself.
        """
        if self._known.generation:
            fields = {**fields, "generation": self._known.generation}
        line, head = chain.encode(self._key, self.head, seq or self.head.seq + 1, fields)
        self._write(line, head, durable, written, later)

    def _write(
        self, line: bytes, head: Head, durable: bool, written: Written | None = None, later: bool = False
    ) -> None:
        self.check()
        if len(line) > chain.MAX_LINE:
            self.fail(f"takes no entry of {len(line)} bytes", "shorten its fields")
        try:
            if os.write(self.descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                if written is not None:
                    written()
                if not later:
                    os.fdatasync(self.descriptor)
            os.pwrite(self._head_file, chain.encode_head(self._key, head, self._known), 0)
        except OSError as error:
            # What cannot be taken back is torn: every later attempt sees the wrong size, the next start repairs it.
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.size)
            self.fail(f"cannot be written ({error.strerror})", ROOM)
        self.head, self.size = head, self.size + len(line)
        self.grown += len(line)
        self._due = self._due or durable
        if head.seq % _JOURNAL_EVERY == 0:
            self.announce()

    @property
    def known(self) -> Known:
        """What the log knows of the store."""
        return replace(self._known, entries=self.head != chain.START)

    def learn(self, change: Callable[[Known], Known]) -> None:
        """Know something else of the store from now on. Nothing is synced. Raises Unavailable."""
        self.check()
        self._known = change(self._known)
        try:
            os.pwrite(self._head_file, chain.encode_head(self._key, self.head, self._known), 0)
        except OSError as error:
            self.fail(f"cannot be written ({error.strerror})", ROOM)

    def check(self) -> None:
        """Raise Unavailable when the file is not what this process has written."""
        if self.descriptor < 0:
            self.fail("is closed", "start the service again")
        try:
            status = os.stat(self._name)  # noqa: PTH116  (before every entry, and Path takes as long again)
        except OSError as error:
            self.fail(f"is gone ({error.strerror})", "start the service again")
        if (status.st_ino, status.st_dev) != (self._status.st_ino, self._status.st_dev):
            self.fail("was replaced by another file", _KEEP)
        if status.st_size != self.size:
            self.fail(f"has {status.st_size} bytes where {self.size} were written", _KEEP)

    def check_room(self) -> None:
        """Raise Unavailable when an entry could not be written now, as far as can be seen without writing one."""
        self.check()
        try:
            found = os.fstatvfs(self.descriptor)
        except OSError as error:
            self.fail(f"cannot be looked at ({error.strerror})", ROOM)
        if found.f_flag & os.ST_RDONLY:
            self.fail("is on a file system that is read-only", ROOM)
        if found.f_bavail * found.f_frsize < chain.MAX_LINE:
            self.fail("has no room for another entry", ROOM)

    def announce(self, always: bool = False) -> None:
        """Tell the journal the head, when a durable entry is new (or `always`: any)."""
        if self._announced == self.head.seq or not (self._due or always or self.head.seq % _JOURNAL_EVERY == 0):
            return
        self._announced, self._due = self.head.seq, False
        seq, mac = str(self.head.seq), self.head.chain
        message = f"audit log {self._path.name}: entry {seq} has chain {mac}"
        self._journal.send(message, {"PROVISION_AUDIT_SEQ": seq, "PROVISION_AUDIT_CHAIN": mac})

    def duplicate(self) -> int:
        """Another descriptor of the present file, which is the caller's to close. Raises Unavailable."""
        self.check()
        return os.dup(self.descriptor)

    def sync(self) -> None:
        """Make everything durable; raises OSError."""
        os.fsync(self.descriptor)

    def release(self) -> None:
        """Close what is open."""
        self._journal.close()
        for descriptor in (self.descriptor, self._head_file):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._head_file = -1

    def fail(self, fact: str, remedy: str) -> NoReturn:
        """Raise Unavailable for the log."""
        raise Unavailable(str(self._path), f"the audit log {fact}", remedy) from None

    # Files

    def is_full(self, now: datetime) -> bool:
        """Whether this file is as long or as old as one may be."""
        return self.size >= self._limits.size or (now >= self._old and self.size > 0)

    def turn(self, now: datetime) -> None:
        """Begin a new file, and let go of the oldest beyond those that are kept.

        A file that cannot be made denies nothing: the present one goes on, and the next is tried again.
        """
        if self.descriptor < 0 or (self._not_before and now < self._not_before):
            return
        self.check()
        self._not_before = now + _AGAIN
        line, head = chain.header(self._key, self.head, iso(now), self._known.generation)
        try:
            self.sync()
            descriptor = segments.replace(self._path, self._first, line)
        except OSError:
            return
        os.close(self.descriptor)
        self.descriptor, self._status = descriptor, os.fstat(descriptor)
        self.head, self.size, self._first, self._old = head, len(line), head.seq, now + self._limits.age
        self._not_before, self._due = None, True
        with suppress(OSError):
            os.pwrite(self._head_file, chain.encode_head(self._key, head, self._known), 0)
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        """Remove the files that are too many; the log says so first, and so goes on to be whole without them."""
        for first, last, path in segments.excess(self._path, self._limits.kept):
            entry = {"time": iso(now), "event": chain.REMOVED, "first": first, "last": last, "file": path.name}
            self.append(entry, durable=True)
            with suppress(OSError):
                path.unlink()

    # Taking it up again

    def _resume(self) -> None:
        """Take up the log where it ends, and say in it what is not as it was left."""
        tail = self._find_tail(self.descriptor)
        content = os.pread(self._head_file, 4096, 0)
        told = chain.decode_head(self._key, content)
        self.head, self.size = tail.head, tail.size
        self._known = chain.known(tail.head, tail.last, told, chain.decode_known(self._key, content))
        if tail.torn:
            aside = _set_aside(self._path, tail.torn)
            os.ftruncate(self.descriptor, tail.size)
            os.fsync(self.descriptor)
        if not tail.size:
            self._after_older()
        self._find_beginning()
        if tail.torn:
            self._recovered(f"{len(tail.torn)} bytes of a torn line were moved to {aside.name}", chain.TORN)
        if told is None and tail.size:
            self._recovered("the head file was missing or altered", "head")
        elif told is not None and told.seq > max(tail.head.seq, self.head.seq):
            lost = f"entries {self.head.seq + 1} to {told.seq} were missing at the end of the log"
            self._recovered(lost, "cut", told.seq + 1)
        elif told is not None and told.seq == tail.head.seq and told != tail.head:
            self._recovered("the log did not end as its head file says", "head")

    def _after_older(self) -> None:
        """An empty file goes on after the older ones, if there are any: begin it as `turn` would have."""
        found = segments.older(self._path)
        if not found:
            return
        descriptor = os.open(found[-1][1], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.head = self._find_tail(descriptor).head
        finally:
            os.close(descriptor)
        line, head = chain.header(self._key, self.head, iso(self._clock()), self._known.generation)
        self._write(line, head, durable=True)

    def _find_beginning(self) -> None:
        """Number and time of the file's first entry; one that cannot be read is for `verify` to tell."""
        line, _, _ = os.pread(self.descriptor, chain.MAX_LINE, 0).partition(b"\n")
        decoded = chain.decode(line)
        if decoded is not None:
            self._first = decoded[0]["seq"]
            with suppress(KeyError, TypeError, ValueError):
                self._old = datetime.fromisoformat(decoded[0]["time"]) + self._limits.age

    def _recovered(self, reason: str, rule: str, seq: int | None = None) -> None:
        fields = {"time": iso(self._clock()), "event": chain.RECOVERED, "rule": rule, "reason": reason}
        self.append(fields, durable=True, seq=max(seq or 0, self.head.seq + 1))

    def _find_tail(self, descriptor: int) -> _Tail:
        size = os.fstat(descriptor).st_size
        start = max(0, size - 4 * chain.MAX_LINE)
        block = os.pread(descriptor, size - start, start)
        whole = block[: block.rfind(b"\n") + 1]
        torn = block[len(whole) :]
        if not whole and start:
            self.fail("does not end in a line of a log", _KEEP)
        if not whole:
            return _Tail(torn=torn)
        found = verifying.last_of(self._key, whole, whole=not start)
        if found is None:
            self.fail("does not end with the line that was written last", _KEEP)
        return _Tail(found[0], size - len(torn), torn, found[1])

    # Reading

    def since(self, seq: int) -> Iterator[Entry]:
        """The entries after the entry `seq`, the newest file first."""
        with segments.opened(self._path, self.size) as found:
            for segment in reversed(found):
                first = None
                for line in chain.lines(segment):
                    decoded = chain.decode(line)
                    if decoded is None:
                        continue
                    first = first or decoded[0]["seq"]
                    if decoded[0]["seq"] > seq:
                        yield decoded[0]
                if first is not None and first <= seq + 1:
                    return


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
    create(aside, torn)
    return aside
