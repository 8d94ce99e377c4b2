"""Proofs that have begun: what was asked of a TPM and has not been answered. In memory, bounded, and short."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Generic, TypeVar

from provision.tpm.public import Public

MOST = 512
"""Proofs that may be under way at a time, one of each host; of more, the one that began first ends."""
LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True)
class Begun:
    """What is asked of the machine with that MAC: a quote over the nonce by the attestation key. `log` is what has come
    so far of the firmware's log."""

    mac: str | None
    at: datetime
    attestation: Public
    nonce: bytes
    log: bytearray = field(default_factory=bytearray, repr=False, compare=False, kw_only=True)


B = TypeVar("B", bound=Begun)


class Unfinished(Generic[B]):
    """By host: a new one of a host takes the place of what it had begun before. Thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._begun: OrderedDict[str, B] = OrderedDict()
        self._lock = Lock()

    def put(self, host: str, begun: B) -> None:
        """Remember it."""
        with self._lock:
            self._begun.pop(host, None)
            self._begun[host] = begun
            while len(self._begun) > self._most:
                self._begun.popitem(last=False)

    def find(self, host: str, mac: str | None, now: datetime) -> B | None:
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
