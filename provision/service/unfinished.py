"""Enrolments that have begun: what was asked of a TPM and has not been answered. In memory, bounded, and short."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from provision.secret import Secret
from provision.tpm.public import Public

MOST = 512
"""Enrolments that may be under way at a time, one of each host; of more, the one that began first ends."""
LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True)
class Begun:
    """What was asked, of which keys, and of the machine with which MAC. `value` is what the TPM must give back."""

    mac: str | None
    at: datetime
    endorsement: Public
    attestation: Public
    certificate: str
    doubt: str
    value: Secret
    nonce: bytes


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

    def take(self, host: str, mac: str | None, now: datetime) -> Begun | None:
        """What the machine with that MAC has begun, once: whatever comes of it, it is over. None when that is nothing,
        or was too long ago; another machine ends nothing."""
        with self._lock:
            begun = self._begun.get(host)
            if begun is None or begun.mac != mac:
                return None
            del self._begun[host]
        return begun if abs(now - begun.at) < LIFETIME else None
