"""The audit log's format: one JSON object per line, each chained to the one before by HMAC-SHA256 (RFC 2104).

A line is `{"seq":N,...,"chain":"HEX"}` where chain = HMAC(key, previous chain as 32 bytes || the line without chain);
before the first line stand 32 zero bytes. The head file holds the last line's number and chain with an HMAC of its
own, so that lines cut off at the end are missed too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provision.errors import Unavailable
from provision.secret import Secret

MAX_LINE = 16384
"""Bytes; no line that this program writes is longer."""

RECOVERED = "recovered"
"""The event that says what was wrong with the log when it was opened; only there a number may be skipped."""

TORN = "torn"
"""The rule of a RECOVERED event that a crash explains: the last line was not whole."""

_TAIL = re.compile(rb'^(\{.*),"chain":"([0-9a-f]{64})"\}$', re.DOTALL)
# What the log knows of the store stands behind the chain; a log that was written before it knew anything has none.
_HEAD = re.compile(rb"([0-9]{20}) ([0-9a-f]{64})(?: ([0-9]{20}) ([0-9TZ:.-]{1,40}))? ([0-9a-f]{64})\n")

_UNSOUND, _NEVER = 10**20 - 1, datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Head:
    """The end of a log: the number of its last line (0 when it is empty) and that line's chain in hex."""

    seq: int
    chain: str


START = Head(0, "0" * 64)


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
    """What became of a log: how many lines it has, its head, and every problem, in the order of the file."""

    entries: int
    head: Head
    problems: tuple[str, ...]

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
    body = json.dumps({"seq": seq, **fields}, separators=(",", ":")).encode()
    chain = _chain(key, head.chain, body)
    return body[:-1] + b',"chain":"' + chain.encode() + b'"}\n', Head(seq, chain)


def decode(line: bytes) -> tuple[dict[str, Any], bytes, str] | None:
    """A line without its newline as (fields, chained bytes, chain), or None when it is no line of a log."""
    match = _TAIL.match(line)
    if match is None:
        return None
    body = match[1] + b"}"
    try:
        fields = json.loads(body)
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
        mark = (known.mark or _NEVER).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
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


def lines(path: Path, size: int | None = None) -> Iterator[bytes]:
    """The lines of the first `size` bytes (None: all) of a log without their newlines; raises Unavailable."""
    left = float("inf") if size is None else size
    try:
        with path.open("rb") as file:
            while left > 0 and (line := file.readline(MAX_LINE)):
                left -= len(line)
                yield line.removesuffix(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "look at its owner and mode") from None


def verify(path: Path, key: Secret, witnesses: Sequence[Head], size: int | None = None) -> VerifyResult:
    """Check the first `size` bytes of a log, from its first line to its end.

    `witnesses` are heads that the log once had, as the head file, the journal or a running service know them; with
    none of them nobody can tell whether lines were cut off at the end, and that is a problem too.
    """
    head, count = START, 0
    expected: dict[int, set[str]] = {}
    for witness in witnesses:
        expected.setdefault(witness.seq, set()).add(witness.chain)
    unseen = set(expected) - {START.seq}
    problems: list[str] = []
    for count, line in enumerate(lines(path, size), 1):
        decoded = decode(line)
        if decoded is None:
            problems.append(f"line {count} is not a line of this log")
            continue
        fields, body, chain = decoded
        problems += _judge(key, head, count, fields, body, chain)
        head = Head(fields["seq"], chain)
        unseen.discard(head.seq)
        if expected.get(head.seq, {chain}) != {chain}:
            problems.append(f"line {count}: entry {head.seq} is another than was written")
    if count and not expected:
        problems.append("the head file is missing or was altered: lines at the end may have been cut off")
    if unseen and (last := max(unseen)) > head.seq:
        problems.append(f"the log was cut at its end: entries {head.seq + 1} to {last} are missing")
    elif unseen:
        problems.append(f"entry {min(unseen)} is missing")
    return VerifyResult(count, head, tuple(problems))


def _judge(key: Secret, head: Head, count: int, fields: Mapping[str, Any], body: bytes, chain: str) -> list[str]:
    """What is wrong with the line after `head`."""
    seq, recovered = fields["seq"], fields.get("event") == RECOVERED
    if not follows(key, head.chain, body, chain):
        return [f"line {count} was altered, or lines before it were removed, inserted or moved"]
    if recovered and seq != head.seq + 1:
        return [f"line {count}: the log was cut here: entries {head.seq + 1} to {seq - 1} are missing"]
    if recovered and fields.get("rule") != TORN:
        return [f"line {count}: the log's head was missing, or of another log, when it was opened"]
    return []


def _chain(key: Secret, previous: str, body: bytes) -> str:
    return hmac.digest(key.reveal(), bytes.fromhex(previous) + body, hashlib.sha256).hex()
