"""Enrolments that have begun: what was asked of a TPM and has not been answered. In memory, bounded, and short."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from provision.secret import Secret
from provision.tpm.public import Public

MOST = 512
"""Enrolments that may be under way at a time, one of each host; of more, the one that began first ends."""
LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True)
class Begun:
    """What was asked, of which keys, and of the machine with which MAC. `value` is what the TPM must give back, and
    `log` what has come so far of the firmware's log."""

    mac: str | None
    at: datetime
    endorsement: Public
    attestation: Public
    certificate: str
    doubt: str
    value: Secret
    nonce: bytes
    log: bytearray = field(default_factory=bytearray, repr=False, compare=False)


class Unfinished:
    """By host: a new one of a host takes the place of what it had begun before. Thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._begun: OrderedDict[str, Begun] = OrderedDict()
        self._lock = Lock()

    def put(self, host: str, begun: Begun) -> None:
        """Remember it."""
        with self._lock:
            self._begun.pop(host, None)
            self._begun[host] = begun
            while len(self._begun) > self._most:
                self._begun.popitem(last=False)

    def find(self, host: str, mac: str | None, now: datetime) -> Begun | None:
        """What the machine with that MAC has begun; None when that is nothing, or was too long ago."""
        with self._lock:
            begun = self._begun.get(host)
        return begun if begun is not None and begun.mac == mac and abs(now - begun.at) < LIFETIME else None

    def add(self, begun: Begun, at: int, part: bytes, most: int) -> bool:
        """Take a part of the log, from byte `at` on; the same once more changes nothing. False when what is before it
        has not come, or it would be longer than `most` bytes."""
        with self._lock:
            if at > len(begun.log) or at + len(part) > most:
                return False
            begun.log[at:] = part
            return True

    def end(self, host: str, begun: Begun) -> bool:
        """It is over, whatever comes of it; False when it was already."""
        with self._lock:
            if self._begun.get(host) is not begun:
                return False
            del self._begun[host]
            return True
