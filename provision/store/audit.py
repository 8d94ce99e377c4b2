"""The append-only audit log: every decision, and what operators did, in a chain that shows any later change.

What gives something away records it first; when `record` raises, the answer is no.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from provision import clock as clocks
from provision import writing
from provision.clock import Clock
from provision.errors import Unavailable
from provision.store import chain, pending, segments, verifying
from provision.store.bounds import Bound, Days, Spent
from provision.store.chain import Head, Known, Segment, VerifyResult
from provision.store.fields import FIELDS, Entry, checked
from provision.store.journal import Journal
from provision.store.keys import MasterKey, Purpose
from provision.store.logfile import ROOM, LogFile, Written
from provision.store.pending import Pending
from provision.store.repeats import REPEAT, Repeat, Repeats, Signature, iso
from provision.store.segments import Limits, newest

__all__ = ["FIELDS", "REPEAT", "Audit", "Bound", "Limits", "verify"]


class Audit:
    """The log at `path`, with its head file (`.head`) and what it does not say yet (`.pending`) beside it; thread-safe.
    One process at a time has it open."""

    def __init__(
        self,
        path: Path,
        key: MasterKey,
        clock: Clock = clocks.now,
        journal: Journal | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Open or make the log; what a crash tore is moved to `<path>.torn-N`, and an event says so.

        Raises Unavailable when it cannot be written, or its last line is not what was written.
        """
        self._path, self._pending_path = path, path.with_suffix(".pending")
        self._key, self._clock = key.subkey(Purpose.AUDIT), clock
        self._lock, self._pending_lock = threading.Lock(), threading.Lock()
        self._repeats, self._days = Repeats(), Days()
        # Acts that have begun, by the number of the entry that says so; entries that could not be written after an act.
        self._acts: dict[int, dict[str, Any]] = {}
        self._left: dict[int, int] = {}
        self._owed: list[tuple[dict[str, Any], int]] = []
        self._counting = self._changed = False
        self._asked = self._written = 0
        self._saved = time.monotonic()
        self._file = LogFile(path, self._key, clock, journal or Journal(), limits or Limits())
        try:
            self._take_up()
        except OSError as error:
            self._file.release()
            self._file.fail(f"cannot be opened ({error.strerror})", ROOM)
        except BaseException:
            self._file.release()
            raise

    @property
    def is_busy(self) -> bool:
        """Whether `record` would wait: another thread is writing, or something is to be done before."""
        return self._lock.locked() or bool(self._owed) or self._file.is_full(self._clock())

    @property
    def sequence(self) -> int:
        """The number of the log's last entry; 0 while there is none."""
        return self._file.head.seq

    def check(self) -> None:
        """Raises Unavailable when nothing could be recorded now. Only looks."""
        with self._lock:
            self._file.check_room()

    @property
    def growth(self) -> int:
        """Bytes that were written to the log since it was opened."""
        return self._file.grown

    @property
    def known(self) -> Known | None:
        """What the log knows of the store, as it was found or witnessed since; None when there is no log to ask."""
        return self._file.known

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
            self._file.learn(change)

    def record(
        self,
        event: Mapping[str, Any],
        durable: bool = False,
        counted: bool | None = None,
        *,
        bound: Bound | None = None,
        begins: int | None = None,
        ends: int | None = None,
        written: Written | None = None,
        later: bool = False,
    ) -> int:
        """Append an event, of FIELDS with text, numbers or None; `time` is an aware datetime (default: now).

        A durable event is on disk when this returns; one that is not counted may be `later`: when `settle` returns, and
        nothing may rest on it before. `counted` ones that repeat are counted only, and a durable one only after one
        that is on disk; None: all but durable ones. What is beyond its `bound` is always counted, and no longer told
        apart from what is like it. `begins` says that an act begins of which so many entries will tell, and `ends` is
        the number of the entry with which one began; it is written later when it cannot be now. `written` is called
        when a durable event is in the file and on its way to the disk, never for one that is counted only. Returns the
        number of the log's last entry. Raises Unavailable when it cannot be written, or the file was replaced or cut:
        then nothing was recorded.
        """
        counted = not durable if counted is None else counted
        now, fields = event.get("time") or self._clock(), checked(event)
        with self._lock:
            try:
                self._make_ready(now)
                if begins is not None:
                    self._begin(fields, begins)
                self._take(fields, now, durable, counted, bound, written=written, later=later and not counted)
            except Unavailable:
                if begins is not None:
                    self._end(self._file.head.seq + 1)
                if ends is not None:
                    self._owed.append(({"time": iso(now), **fields}, ends))
                raise
            if ends is not None:
                self._end(ends, failed=fields.get("event") == pending.FAILED)
            return self._file.head.seq

    def settle(self) -> None:
        """Wait until all that was recorded up to now is on disk; others record meanwhile. Raises Unavailable.

        Then what was to be durable `later` stays in the file, unlike what could not be written: entries of others may
        follow it. So it may say of something given away that it was, and was not, never the other way.
        """
        with self._lock:
            descriptor = self._file.duplicate()
        try:
            os.fdatasync(descriptor)  # a file that has been turned was synced by that
        except OSError as error:
            self._file.fail(f"cannot be written ({error.strerror})", ROOM)
        finally:
            os.close(descriptor)

    def extend(self, event: Mapping[str, Any], sent: range, bound: Bound | None = None) -> None:
        """Note which bytes an event is about that was recorded and counted a moment ago; its count will say so."""
        fields = checked(event)
        now = event.get("time") or self._clock()
        with self._lock:
            repeat = self._repeats.table(fields).find(_signature(fields), now)
            if repeat is None and bound is not None:
                repeat = self._repeats.table(fields, over=True).find(_signature(bound.coarse(fields)), now)
            if repeat is not None:
                repeat.add(sent)
                self._changed = True

    def flush(self, now: datetime | None = None) -> None:
        """Write the counts whose time has ended (`now` None: all), and to the file beside the log those that go on, and
        tell the journal of durable events since the last time: a service does this every second, so that a client that
        waits for an answer waits neither for the journal nor for what is counted.

        Raises Unavailable.
        """
        with self._lock:
            moment = now or self._clock()
            self._make_ready(moment)
            self._sweep(moment, everything=now is None)
            self._file.announce()
            content = self._due_content(now is None)
        if content is not None:
            self._save(*content, durable=False)

    def close(self) -> None:
        """Write what is counted, sync and close; raises Unavailable when that fails. Twice is not an error."""
        with self._lock:
            if self._file.descriptor < 0:
                return
            try:
                self._make_ready(self._clock())
                self._sweep(self._clock(), everything=True)
                self._file.sync()
                if (content := self._due_content(True)) is not None:
                    self._save(*content, durable=False)
            except OSError as error:
                self._file.fail(f"cannot be written ({error.strerror})", ROOM)
            finally:
                self._file.announce(always=True)
                self._file.release()

    def verify(self, witnesses: Sequence[Head] = ()) -> VerifyResult:
        """Check the whole log up to now, and that the `witnesses` are in it; recording goes on meanwhile.

        Raises Unavailable when it cannot be read.
        """
        with ExitStack() as stack:
            with self._lock:
                head = self._file.head
                found = _opened(stack, self._path, self._file.size)
            return verifying.verify(found, self._key, [*witnesses, head])

    def entries(self, host: str | None = None, limit: int = 100, before: int | None = None) -> list[Entry]:
        """The newest `limit` entries, of one host or of all, oldest first; without their chains. With `before` only
        those whose number is less."""
        with ExitStack() as stack:
            with self._lock:
                found = _opened(stack, self._path, self._file.size)
            return newest(found, host, limit, before)

    def _make_ready(self, now: datetime) -> None:
        """Do what is to be done before anything else is written; raises Unavailable when it cannot be."""
        if self._file.is_full(now):
            self._file.turn(now)
        while self._owed:
            fields, number = self._owed[0]
            self._file.append(fields, durable=True)
            self._owed.pop(0)
            self._end(number, failed=fields.get("event") == pending.FAILED)

    # Counting

    def _take(
        self,
        fields: dict[str, Any],
        now: datetime,
        durable: bool,
        counted: bool,
        bound: Bound | None,
        over: bool = False,
        written: Written | None = None,
        later: bool = False,
    ) -> None:
        """Write an event, or count it when it is `counted` and one like it is in the log (on disk, if it must be), or
        when it is beyond its bound."""
        if not counted and bound is None:
            self._file.append({"time": iso(now), **fields}, durable, written=written, later=later)
            return
        signature, table = _signature(fields), self._repeats.table(fields, over)
        self._write_counts(table.ended(now))
        repeat = table.find(signature, now) if counted else None
        if repeat is not None and (repeat.durable or not durable):
            self._file.check()
            table.again(signature, repeat, now)
            self._changed = True
            return
        if bound is not None and (spent := self._days.spend(bound, now)) is not Spent.WITHIN:
            if spent is Spent.FIRST_OVER:
                self._file.append({"time": iso(now), **bound.notice(fields)}, durable=False)
            self._take(bound.coarse(fields), now, durable, True, None, over=True)
            return
        if counted and not self._counting:
            self._counting = True
            self._mark()
        self._file.append({"time": iso(now), **fields}, durable, written=written, later=later)
        if repeat is not None:
            repeat.durable = True
        elif counted and (ended := table.add(signature, Repeat(now, now, fields, durable))) is not None:
            self._write_counts([ended])

    def _sweep(self, now: datetime, everything: bool) -> None:
        self._write_counts(self._repeats.ended(now, everything))

    def _write_counts(self, ended: Iterable[Repeat]) -> None:
        for repeat in ended:
            if repeat.unwritten:
                self._file.append(repeat.entry(), durable=False)
                self._changed = True

    # Acts

    def _begin(self, fields: Mapping[str, Any], entries: int) -> None:
        """Note that an act begins with the next entry, where the next start looks for it; raises Unavailable."""
        seq = self._file.head.seq + 1
        known = {name: value for name, value in fields.items() if name != "event"}
        self._acts[seq], self._left[seq] = known | {"of": seq, "count": entries}, entries
        self._save(*self._content(), durable=True)

    def _end(self, number: int, failed: bool = True) -> None:
        left = 0 if failed else self._left.get(number, 1) - 1
        self._left[number], self._changed = left, True
        if left <= 0:
            self._acts.pop(number, None)
            self._left.pop(number)

    # What the log does not say yet

    def _mark(self) -> None:
        """Say on disk that counting begins; raises Unavailable, and then it does not."""
        try:
            self._save(*self._content(), durable=False)
        except Unavailable:
            self._counting = False
            raise

    def _due_content(self, at_once: bool) -> tuple[int, Pending] | None:
        """What is to be written now to the file beside the log, if anything is."""
        rows = self._repeats.rows()
        idle = self._counting and not rows
        if not (idle or self._changed) or not (at_once or idle or time.monotonic() - self._saved >= pending.EVERY):
            return None
        self._counting = bool(rows)
        return self._content(rows)

    def _content(self, rows: Sequence[Repeat] | None = None) -> tuple[int, Pending]:
        """The file beside the log as it should be now, with a number that tells the newer one."""
        rows = self._repeats.rows() if rows is None else rows
        counts = tuple(repeat.entry() for repeat in rows if repeat.unwritten)
        now, seq = iso(self._clock()), self._file.head.seq
        acts = tuple(act | {"count": self._left[number]} for number, act in self._acts.items())
        found = Pending(now, seq, self._counting, counts, acts)
        self._changed, self._saved, self._asked = False, time.monotonic(), self._asked + 1
        return self._asked, found

    def _save(self, number: int, content: Pending, durable: bool) -> None:
        """Write the file beside the log, unless a newer one is there; takes no lock that recording needs."""
        with self._pending_lock:
            if number < self._written:
                return
            try:
                writing.write(self._pending_path, pending.encode(self._key, content), durable=durable)
            except OSError as error:
                self._changed = True
                self._file.fail(f"cannot be written ({error.strerror})", ROOM)
            self._written = number

    def _take_up(self) -> None:
        """Write into the log what a killed process had not written yet, and what nobody knows."""
        try:
            content = self._pending_path.read_bytes()
        except FileNotFoundError:
            return
        found = pending.decode(self._key, content)
        lacking: Iterable[dict[str, Any]]
        if found is None:
            reason = f"{self._pending_path.name} was altered: counts may be missing"
            lacking = [{"event": chain.RECOVERED, "rule": chain.ALTERED, "reason": reason}]
        elif found.is_idle:
            return
        else:
            lacking = pending.unsaid(found, self._file.since(found.seq))
        for entry in lacking:
            self._file.append({"time": iso(self._clock())} | entry, durable=False)
        self._file.sync()
        self._save(*self._content(), durable=False)


def _signature(fields: Mapping[str, Any]) -> Signature:
    return tuple(fields.items())


def _opened(stack: ExitStack, path: Path, size: int | None = None) -> list[Segment]:
    try:
        return stack.enter_context(segments.opened(path, size))
    except OSError as error:
        raise chain.unreadable(path, error) from None


def verify(path: Path, key: MasterKey, witnesses: Sequence[Head] = ()) -> VerifyResult:
    """Check a log that no process has open against its head file and, if given, what the journal witnessed."""
    audit_key = key.subkey(Purpose.AUDIT)
    try:
        told = chain.decode_head(audit_key, path.with_suffix(".head").read_bytes())
    except OSError:
        told = None
    with ExitStack() as stack:
        return verifying.verify(_opened(stack, path), audit_key, [*witnesses, *([told] if told else [])])
