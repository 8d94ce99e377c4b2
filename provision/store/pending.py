"""What the audit log does not say yet: repeats that are being counted, and acts that have begun, in a file beside it.

The file is written anew every few seconds while there is something to say, so that a killed process loses the counts of
no more than those; the next start writes what it finds here into the log, and says from when on something may be
missing. Its last line is an HMAC with the log's key over the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from provision.secret import Secret
from provision.store import chain

EVERY = 2.0
"""Seconds between two writes of what is counted."""

BEGUN, FAILED = "begun", "failed"
"""The events that say that an act begins, and that it did not happen."""

_MAC = 64
_ALL = 1 << 32


@dataclass(frozen=True)
class Pending:
    """What was not in the log at the moment `saved`, when its last entry was `seq`.

    `counting` says that repeats may have been counted since; `counts` are whole entries, without number. An act is the
    number of the entry that begins it, with the event that it becomes, its fields, and of how many entries it is.
    """

    saved: str
    seq: int
    counting: bool = False
    counts: tuple[dict[str, Any], ...] = ()
    acts: tuple[dict[str, Any], ...] = field(default=())

    @property
    def is_idle(self) -> bool:
        """Whether a process that ends now leaves nothing out of the log."""
        return not self.counting and not self.acts


def encode(key: Secret, pending: Pending) -> bytes:
    """The file's content."""
    body = json.dumps(vars(pending), separators=(",", ":")).encode() + b"\n"
    return body + _mac(key, body) + b"\n"


def decode(key: Secret, content: bytes) -> Pending | None:
    """What a file says, or None when it was not written with this key, or not by a program that this one knows."""
    body, mac = content[: -_MAC - 1], content[-_MAC - 1 : -1]
    if not hmac.compare_digest(_mac(key, body), mac):
        return None
    try:
        found = json.loads(body)
        return Pending(**found | {name: tuple(found[name]) for name in ("counts", "acts")})
    except (ValueError, TypeError, KeyError):
        return None


def unsaid(pending: Pending, later: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries that a log lacks whose writer was killed, when `later` are those that it has after `pending.seq`.

    Counts first, then what is not known: what was counted after the last write, and the end of every act.
    """
    counted, ends, begun = set[str](), dict[int, int](), {act["of"] for act in pending.acts if act["of"] <= pending.seq}
    for entry in later:
        if "since" in entry:
            counted.add(_signature(entry))
        if entry.get("event") == BEGUN:
            begun.add(entry["seq"])
        elif isinstance(of := entry.get("of"), int):
            ends[of] = ends.get(of, 0) + (_ALL if entry.get("event") == FAILED else 1)
    yield from (entry for entry in pending.counts if _signature(entry) not in counted)
    if pending.counting:
        reason = f"it was not closed: repeats since {pending.saved} may be missing in the counts"
        yield {"event": chain.RECOVERED, "rule": chain.KILLED, "reason": reason, "since": pending.saved}
    for act in pending.acts:
        if act["of"] in begun and ends.get(act["of"], 0) < act["count"]:
            reason = f"begun as entry {act['of']}, and its end is not in the log: look at whether it happened"
            yield {"event": chain.RECOVERED, "rule": chain.UNFINISHED, "reason": reason, **act}


def _signature(entry: Mapping[str, Any]) -> str:
    """What tells one repeat from another: all but its number and what grows."""
    grows = ("seq", "time", "count", "bytes", "from", "to")
    return json.dumps({name: value for name, value in entry.items() if name not in grows}, sort_keys=True)


def _mac(key: Secret, body: bytes) -> bytes:
    return hmac.digest(key.reveal(), b"pending " + body, hashlib.sha256).hex().encode()
