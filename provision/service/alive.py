"""Which hosts are up: they say so themselves every few seconds, signed with a key that only their seed has."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

_RUNS = 16
"""Starts of one host that are remembered; the one heard longest ago goes first."""


@dataclass(frozen=True)
class Message:
    """What a host says: in the boot that its seed calls `boot`, started as `run` (the kernel's own boot id), it is up
    (or goes down). `sequence` grows with every message of a run. `tag` is HMAC-SHA256 (RFC 2104) over `signed`.
    `identity` is what it says of the identity on its disk (provision.stored), and `slots` of the slots there
    (provision.slots); "" for nothing."""

    host: str
    boot: str
    run: str
    sequence: int
    up: bool
    tag: bytes
    identity: str = ""
    slots: str = ""

    @property
    def signed(self) -> bytes:
        """What the tag is made of."""
        state = "up" if self.up else "down"
        more = f"|{self.identity}" if self.identity or self.slots else ""
        more += f"|{self.slots}" if self.slots else ""
        return f"alive|{self.host}|{self.boot}|{self.run}|{self.sequence}|{state}{more}".encode()

    def order(self, key: bytes, ordered: str) -> str:
        """What answers this message, and no other: a tag (hex) by which the host knows who orders it."""
        text = f"order|{self.host}|{self.boot}|{self.run}|{self.sequence}|{ordered}"
        return hmac.digest(key, text.encode(), hashlib.sha256).hex()

    def is_genuine(self, key: bytes) -> bool:
        """Whether somebody who has `key` said this."""
        return hmac.compare_digest(hmac.digest(key, self.signed, hashlib.sha256), self.tag)


@dataclass
class _Run:
    """One start of a host: the highest sequence number heard, when, and whether it was up then."""

    sequence: int
    at: datetime
    up: bool


class Alive:
    """What hosts said of themselves since this process started. In memory: a message is worth seconds.

    A message that was heard already, or one older than it, changes nothing. One that was kept from this process, or
    that was heard before it started, can make a host look up that is not: each once. None can make a host look down
    that is up.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, OrderedDict[tuple[str, str], _Run]] = {}
        self._twice: dict[str, datetime] = {}
        self._lock = Lock()

    def booted(self, host: str, boot: str, now: datetime) -> None:
        """The host has come up, as it says by the key that is good once for that; what it was before has ended."""
        with self._lock:
            for run in self._hosts.get(host, {}).values():
                run.up = False
            self._keep(host, (boot, ""), _Run(-1, now, up=True))

    def take(self, message: Message, now: datetime) -> bool:
        """Note a genuine message; False when it is not newer than what the same run said before."""
        place = message.boot, message.run
        with self._lock:
            runs = self._hosts.get(message.host, OrderedDict())
            known = runs.get(place)
            if known is not None and message.sequence <= known.sequence:
                return False
            if message.up and known is not None and _another_since(runs, known):
                self._twice[message.host] = now
            # Down counts only for what was seen to be up: an old copy of it must not speak for a host that is.
            if message.up or known is not None:
                runs.pop((message.boot, ""), None)
            self._keep(message.host, place, _Run(message.sequence, now, message.up))
            return True

    def is_later(self, message: Message) -> bool:
        """Whether it is newer than what the same run said before."""
        runs = self._hosts.get(message.host)
        known = runs.get((message.boot, message.run)) if runs is not None else None
        return known is None or message.sequence > known.sequence

    def heard(self, host: str) -> datetime | None:
        """When the host last said that it is up; None when it did not, or has gone down since."""
        if host not in self._hosts:
            return None
        with self._lock:
            return max((run.at for run in self._hosts.get(host, {}).values() if run.up), default=None)

    def twice(self, host: str) -> datetime | None:
        """When a start of the host was last heard although another one had spoken since its last word: two machines
        are up as this host. A word that was kept from this process can make it look so, once."""
        return self._twice.get(host)

    def _keep(self, host: str, place: tuple[str, str], run: _Run) -> None:
        runs = self._hosts.setdefault(host, OrderedDict())
        runs[place] = run
        runs.move_to_end(place)
        while len(runs) > _RUNS:
            runs.popitem(last=False)


def _another_since(runs: OrderedDict[tuple[str, str], _Run], known: _Run) -> bool:
    """Whether another start was heard, by a message of its own, since `known` was."""
    return any(run is not known and run.sequence >= 0 and run.at > known.at for run in runs.values())
