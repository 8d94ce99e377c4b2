"""Walking through every file of an audit log, from its first line to its end, and saying what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.secret import Secret
from provision.store import chain
from provision.store.chain import Head, Segment, VerifyResult
from provision.store.fields import Entry

_EXPLAINED = frozenset({chain.TORN, chain.KILLED, chain.UNFINISHED})


def verify(segments: Sequence[Segment], key: Secret, witnesses: Sequence[Head]) -> VerifyResult:
    """Check the files of a log, the oldest first; `witnesses` are heads that the log once had, as the head file, the
    journal or a running service know them.

    With none of them nobody can tell whether lines were cut off at the end, and that is a problem too. A witness of
    entries that are no longer kept says nothing against the log. Raises Unavailable.
    """
    walk = _Walk(key, witnesses)
    for number, segment in enumerate(segments):
        walk.segment(segment, newest=number == len(segments) - 1)
    walk.end()
    return VerifyResult(walk.entries, walk.head, tuple(walk.problems), walk.starts)


class _Walk:
    """How far a log has been read, and what was found."""

    def __init__(self, key: Secret, witnesses: Sequence[Head]) -> None:
        self._key = key
        self._expected: dict[int, set[str]] = {}
        for witness in witnesses:
            self._expected.setdefault(witness.seq, set()).add(witness.chain)
        self._unseen = set(self._expected) - {chain.START.seq}
        self.head, self.entries, self.starts = chain.START, 0, 1
        self.problems: list[str] = []
        self._removed = 0

    def segment(self, segment: Segment, newest: bool) -> None:
        """Read one file to its end."""
        for count, line in enumerate(chain.lines(segment), 1):
            place = f"line {count}" if newest else f"{segment.path.name}: line {count}"
            decoded = chain.decode(line)
            self.entries += 1
            if decoded is None:
                self.problems.append(f"{place} is not a line of this log")
                continue
            if count == 1:
                self._begin(segment, decoded)
            self._line(place, decoded)

    def _begin(self, segment: Segment, decoded: tuple[Entry, bytes, str]) -> None:
        """Take up the chain where the file's first line says, and say what is missing before it."""
        seq, name = decoded[0]["seq"], segment.path.name
        if segment.first not in (None, seq):
            self.problems.append(f"{name} begins with entry {seq}: it is not the file that its name says")
        before = chain.continued(self._key, decoded)
        if before is None or before == self.head:
            return
        if self.entries == 1:
            self.starts = seq
        elif before.seq > self.head.seq:
            self.problems.append(f"entries {self.head.seq + 1} to {before.seq} are missing before {name}")
        else:
            self.problems.append(f"{name} does not go on where the file before it ends")
        self._witness(f"the start of {name}", before)
        self.head = before

    def _line(self, place: str, decoded: tuple[Entry, bytes, str]) -> None:
        fields, body, mac = decoded
        self.problems += _judge(self._key, self.head, place, fields, body, mac)
        self.head = Head(fields["seq"], mac)
        self._witness(place, self.head)
        if fields.get("event") == chain.REMOVED and isinstance(fields.get("last"), int):
            self._removed = max(self._removed, fields["last"])

    def _witness(self, place: str, head: Head) -> None:
        self._unseen.discard(head.seq)
        if self._expected.get(head.seq, {head.chain}) != {head.chain}:
            self.problems.append(f"{place}: entry {head.seq} is another than was written")

    def end(self) -> None:
        """What only the whole log shows."""
        if self.starts > self._removed + 1:
            gone = f"entries {self._removed + 1} to {self.starts - 1} are missing"
            self.problems.append(
                f"the log starts at entry {self.starts}: {gone}, and nothing says that they were removed"
            )
        self._unseen = {seq for seq in self._unseen if seq >= self.starts}
        if self.entries and not self._expected:
            self.problems.append("the head file is missing or was altered: lines at the end may have been cut off")
        if self._unseen and (last := max(self._unseen)) > self.head.seq:
            self.problems.append(f"the log was cut at its end: entries {self.head.seq + 1} to {last} are missing")
        elif self._unseen:
            self.problems.append(f"entry {min(self._unseen)} is missing")


def _judge(key: Secret, head: Head, place: str, fields: Mapping[str, Any], body: bytes, mac: str) -> list[str]:
    """What is wrong with the line after `head`."""
    seq, recovered, rule = fields["seq"], fields.get("event") == chain.RECOVERED, fields.get("rule")
    if not chain.follows(key, head.chain, body, mac):
        return [f"{place} was altered, or lines before it were removed, inserted or moved"]
    if recovered and seq != head.seq + 1:
        return [f"{place}: the log was cut here: entries {head.seq + 1} to {seq - 1} are missing"]
    if recovered and rule == chain.ALTERED:
        return [f"{place}: what was counted when the log was opened had been altered: counts may be missing"]
    if recovered and rule not in _EXPLAINED:
        return [f"{place}: the log's head was missing, or of another log, when it was opened"]
    return []


def last_of(key: Secret, block: bytes, whole: bool) -> tuple[Head, Mapping[str, Any]] | None:
    """The head and the last entry of a log whose last lines are `block` (`whole`: these are all it has); None when it
    does not end with a line that was written with this key."""
    found = block[:-1].split(b"\n")[-2:]
    last = chain.decode(found[-1])
    if last is None:
        return None
    before = chain.decode(found[0]) if len(found) == 2 else None
    begun = chain.continued(key, last) if whole and len(found) == 1 else None
    previous = before[2] if before else (begun or chain.START).chain
    return (Head(last[0]["seq"], last[2]), last[0]) if chain.follows(key, previous, last[1], last[2]) else None
