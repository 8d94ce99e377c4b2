"""The audit log's format: one JSON object per line, each chained to the one before by HMAC-SHA256 (RFC 2104).

A line is `{"seq":N,...,"chain":"HEX"}` where chain = HMAC(key, previous chain as 32 bytes || the line without chain);
before the first line stand 32 zero bytes. The head file holds the last line's number and chain with an HMAC of its
own, so that lines cut off at the end are missed too.

A log may be several files. Each but the very first begins with a line `{"seq":N,...,"event":"segment","after":N-1,
"previous":"HEX","chain":"HEX"}`, chained like every other; it names the chain that it continues, so that it can be
checked when the file before it has been removed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from provision.errors import Unavailable
from provision.secret import Secret
from provision.store.fields import Entry

MAX_LINE = 16384
"""Bytes; no line that this program writes is longer."""

RECOVERED = "recovered"
"""The event that says what was wrong with the log when it was opened; only there a number may be skipped."""

TORN = "torn"
"""The rule of a RECOVERED event that a crash explains: the last line was not whole."""

KILLED, UNFINISHED = "killed", "unfinished"
"""Rules of RECOVERED events that a killed process explains: what it had counted, and what it had begun."""

ALTERED = "pending"
"""The rule of a RECOVERED event: the file of what the log did not say yet was altered."""

SEGMENT = "segment"
"""The event that begins a file of the log and names the chain that it continues."""

REMOVED = "segment-removed"
"""The event that says that the files up to the entry `last` are kept no longer; it is written before they go."""

_TAIL = re.compile(rb'^(\{.*),"chain":"([0-9a-f]{64})"\}$', re.DOTALL)
_HEX = re.compile(r"[0-9a-f]{64}")
# What the log knows of the store stands behind the chain; a log that was written before it knew anything has none.
_HEAD = re.compile(rb"([0-9]{20}) ([0-9a-f]{64})(?: ([0-9]{20}) ([0-9TZ:.-]{1,40}))? ([0-9a-f]{64})\n")

_JSON = json.JSONEncoder(separators=(",", ":"))
_UNSOUND, _NEVER = 10**20 - 1, datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Head:
    """The end of a log: the number of its last line (0 when it is empty) and that line's chain in hex."""

    seq: int
    chain: str


START = Head(0, "0" * 64)


@dataclass(frozen=True)
class Segment:
    """One open file of a log: its path, the number of the first entry that its name tells, and how many bytes count."""

    path: Path
    first: int | None
    file: IO[bytes] = field(repr=False)
    size: int | None = None


@dataclass(frozen=True)
class Known:
    """What a log knows of the store beside it: the newest `generation` that was committed (0: none yet), and the latest
    time that it was (`mark`).

    `entries` says that the log is not empty. It is not `sound` when its head was not there to be read, or the log is
    not the one that goes with the store: then it may have known more.
    """

    generation: int = 0
    mark: datetime | None = None
    entries: bool = False
    sound: bool = True


@dataclass(frozen=True)
class VerifyResult:
    """What became of a log: how many lines it has, its head, every problem in the order of the files, and the number of
    its first entry (more than 1 when older files were removed)."""

    entries: int
    head: Head
    problems: tuple[str, ...]
    starts: int = 1

    @property
    def ok(self) -> bool:
        """Whether the log is whole and unaltered."""
        return not self.problems

    @property
    def problem(self) -> str | None:
        """The first problem."""
        return self.problems[0] if self.problems else None


def encode(key: Secret, head: Head, seq: int, fields: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The line that follows `head`, with its newline, and the head that it makes."""
    body = _JSON.encode({"seq": seq, **fields}).encode()
    chain = _chain(key, head.chain, body)
    return body[:-1] + b',"chain":"' + chain.encode() + b'"}\n', Head(seq, chain)


def decode(line: bytes) -> tuple[Entry, bytes, str] | None:
    """A line without its newline as (fields, chained bytes, chain), or None when it is not a line of a log."""
    match = _TAIL.match(line)
    if match is None:
        return None
    body = match[1] + b"}"
    try:
        fields: Entry = json.loads(body)
    except ValueError:
        return None
    seq = fields.get("seq")
    return (fields, body, match[2].decode()) if isinstance(seq, int) and not isinstance(seq, bool) else None


def follows(key: Secret, previous: str, body: bytes, chain: str) -> bool:
    """Whether a line with `body` and `chain` was written after the line with the chain `previous`."""
    return hmac.compare_digest(_chain(key, previous, body), chain)


def encode_head(key: Secret, head: Head, known: Known | None = None) -> bytes:
    """The head file's content, always of one length, and of another with what is known of the store."""
    text = f"{head.seq:020d} {head.chain}".encode()
    if known is not None and (known.mark is not None or not known.sound):
        mark = (known.mark or _NEVER).astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        text += f" {known.generation if known.sound else _UNSOUND:020d} {mark}".encode()
    return text + b" " + hmac.digest(key.reveal(), b"head " + text, hashlib.sha256).hex().encode() + b"\n"


def decode_head(key: Secret, content: bytes) -> Head | None:
    """The head that a head file tells, or None when it was not written with this key."""
    match = _head(key, content)
    return Head(int(match[1]), match[2].decode()) if match else None


def decode_known(key: Secret, content: bytes) -> Known | None:
    """What a head file tells of the store, or None like `decode_head`."""
    match = _head(key, content)
    if match is None:
        return None
    if not match[3]:
        return Known()
    generation, mark = int(match[3]), datetime.fromisoformat(match[4].decode())
    return Known(mark=mark, sound=False) if generation == _UNSOUND else Known(generation, mark)


def known(head: Head, last: Mapping[str, Any], told: Head | None, told_known: Known | None) -> Known:
    """What a log's last line and its head file know of the store together: what a crash lost of one, the other has."""
    generation, time = last.get("generation", 0), last.get("time")
    moments = [datetime.fromisoformat(time)] if time else []
    if told is None or told_known is None:
        return Known(generation, max(moments, default=None), sound=head == START)
    moments += [told_known.mark] if told_known.mark else []
    sound = told_known.sound and (told.seq != head.seq or told == head)
    return Known(max(generation, told_known.generation), max(moments, default=None), sound=sound)


def _head(key: Secret, content: bytes) -> re.Match[bytes] | None:
    match = _HEAD.fullmatch(content)
    if match is None:
        return None
    expected = hmac.digest(key.reveal(), b"head " + content[: match.start(5) - 1], hashlib.sha256).hex().encode()
    return match if hmac.compare_digest(expected, match[5]) else None


def header(key: Secret, head: Head, time: str, generation: int) -> tuple[bytes, Head]:
    """The line that begins a file which goes on after `head`; `generation` is the store's (see `Known`)."""
    fields: dict[str, Any] = {"time": time, "event": SEGMENT, "after": head.seq, "previous": head.chain}
    fields |= {"generation": generation} if generation else {}
    return encode(key, head, head.seq + 1, fields)


def continued(key: Secret, decoded: tuple[Entry, bytes, str]) -> Head | None:
    """The head that a line says it continues, when it is a header that was written with this key."""
    fields, body, chain = decoded
    after, previous = fields.get("after"), fields.get("previous")
    if fields.get("event") != SEGMENT or not isinstance(after, int) or not isinstance(previous, str):
        return None
    return Head(after, previous) if _HEX.fullmatch(previous) and follows(key, previous, body, chain) else None


def lines(segment: Segment) -> Iterator[bytes]:
    """The lines of an open file without their newlines; raises Unavailable."""
    left = float("inf") if segment.size is None else segment.size
    try:
        while left > 0 and (line := segment.file.readline(MAX_LINE)):
            left -= len(line)
            yield line.removesuffix(b"\n")
    except OSError as error:
        raise unreadable(segment.path, error) from None


def unreadable(path: Path, error: OSError) -> Unavailable:
    """What to say of a log that cannot be read."""
    return Unavailable(str(path), f"cannot be read ({error.strerror})", "look at its owner and mode")


def _chain(key: Secret, previous: str, body: bytes) -> str:
    return hmac.digest(key.reveal(), bytes.fromhex(previous) + body, hashlib.sha256).hex()
