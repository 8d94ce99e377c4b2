"""The races for a host's seed: its state, its way to boot, what the attacker's ARP says and when it says it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tests.integration.attacks.clients import OPTIONS, Client, Http, Tftp
from tests.integration.attacks.intruder import Kind, Seen, When
from tests.integration.attacks.race_site import ADDRESS, RaceSite
from tests.integration.attacks.site import MGMT
from tests.integration.attacks.victim import Booted, Way

STUCK = "stuck"


class State(StrEnum):
    """What the real host is doing meanwhile."""

    OFF = "off"
    BOOTING = "booting"
    ONLINE = "online"


@dataclass(frozen=True)
class Outcome:
    """One run: secret bytes on wrong ports, what the attacker was told, the denials that were audited, what the real
    host saw in the end, and whether its window was charged before it had a byte."""

    attack: str
    variant: str
    leaked: int
    refusal: str
    denials: tuple[str, ...]
    host: str
    burned: bool = False

    @property
    def refused(self) -> bool:
        return bool(self.refusal or self.denials)

    @property
    def failed(self) -> bool:
        """Whether the promise was broken, or the host left behind."""
        return bool(self.leaked) or self.burned or self.host == STUCK


class Attack(Protocol):
    """What has a name and can be run."""

    @property
    def attack(self) -> str:
        """Which row of the table it belongs to."""

    @property
    def variant(self) -> str:
        """What makes it different from the others of its row."""

    @property
    def group(self) -> str:
        """What it shares with the variants that take turns with it."""

    @property
    def way(self) -> Way:
        """How the host boots."""

    def run(self, site: RaceSite) -> Outcome:
        """Prepare the site, attack, let the host boot."""


@dataclass(frozen=True)
class Race:
    """One variant; `entry` is the state of the server's neighbour entry for the host when it begins."""

    state: State
    way: Way
    kind: Kind
    when: When
    entry: str = "stale"

    @property
    def attack(self) -> str:
        return f"{self.way}, host {self.state}"

    @property
    def variant(self) -> str:
        return f"{self.kind}, {self.when}" + ("" if self.entry == "stale" else f", neighbour entry {self.entry}")

    @property
    def group(self) -> str:
        return f"{self.attack}, ARP {self.when}"

    def run(self, site: RaceSite) -> Outcome:
        site.prepare(on=self.state is not State.OFF, entry=self.entry)
        if self.state is State.BOOTING:
            return judged(site, self, lambda: self._beside_a_boot(site), alone=False)
        return judged(site, self, lambda: (self._attack(site), None), alone=True)

    def _attack(self, site: RaceSite) -> Seen:
        # The server may ask a host that is off for two seconds; half of the attackers wait for what it says then, the
        # other half is there no longer when the host comes back in the middle of that.
        waits = self.state is State.OFF and self.when in (When.AFTER, When.FLOOD)
        return site.intruder.attack(site.target, client(self.way), self.kind, self.when, seconds=2.5 if waits else 0.8)

    def _beside_a_boot(self, site: RaceSite) -> tuple[Seen, Booted | None]:
        """Both ask for the seed at once: the attacker begins when the host has its configuration."""
        begun, booted = threading.Event(), list[Booted]()

        def between() -> None:
            begun.set()
            time.sleep(random.choice((0.0, 0.005, 0.02)))  # who of the two is first is left to chance

        def boot() -> None:
            try:
                booted.append(site.victim.boot(self.way, between=between))
            finally:
                begun.set()

        thread = threading.Thread(target=boot)
        thread.start()
        begun.wait(10)
        seen = self._attack(site)
        thread.join()
        return seen, (booted[0] if booted and booted[0].data else None)


def client(way: Way) -> Client:
    """The attacker's request for what the host would ask for, from the host's address."""
    source = (ADDRESS, random.randrange(1024, 65000))
    if way is Way.HTTP:
        return Http(source, MGMT, "/boot/seed/current/seed.cpio")
    if way is Way.HTTP_BOOT:
        return Http(source, MGMT, "/http-boot/boot.iso")
    return Tftp(source, MGMT, *(OPTIONS if way is Way.TFTP_OPTIONS else ()))


def judged(
    site: RaceSite,
    attack: Attack,
    run: Callable[[], tuple[Seen, Booted | None]],
    *,
    alone: bool,
) -> Outcome:
    """Let an attack run on a site that is prepared, then let the real host boot, and say what came of it.

    `alone` says that the host took part in nothing that may be charged: then its window must be as it was.
    """
    since, way = site.last_entry(), attack.way
    seen, booted = run()
    burned = alone and site.window_used() > 0
    entries = site.audited(since)
    if booted is None:
        site.victim.reset()
        ended, tries = site.victim.boot_until_it_works(way)
    else:
        ended, tries = booted, 0
    strays = site.strays()
    known = site.secrets.with_key(ended.key.encode()) if ended.key else site.secrets
    leaked = max(known.in_frames(frames) for frames in strays.values())
    if leaked:
        site.keep(attack.attack.replace(" ", "-"), strays)
    host = _seen_by(site, ended, tries)
    if ended.key:
        site.victim.up(ended.key)
    denials = tuple(sorted({str(entry["rule"]) for entry in entries if entry.get("rule")}))
    return Outcome(attack.attack, attack.variant, leaked, seen.refusal, denials, host, burned)


def _seen_by(site: RaceSite, ended: Booted, tries: int) -> str:
    if ended.data:
        return {0: "booted meanwhile", 1: "booted"}.get(tries, f"booted at try {tries}")
    # A denial that was told a moment ago is counted with that one, and has no entry of its own yet.
    if ended.refusal and any(entry.get("rule") and entry.get("address") == ADDRESS for entry in site.audited()):
        return f"refused: {ended.refusal}"
    return STUCK


_FORGED = [kind for kind in Kind if kind is not Kind.NONE]


def races() -> Iterator[Race]:
    """Every variant, those of one attack together."""
    for way, state in itertools.product(Way, State):
        for kind, when in itertools.product(_FORGED, When):
            yield Race(state, way, kind, when)
        yield Race(state, way, Kind.NONE, When.BEFORE)
        if state is State.OFF:
            yield from _entries(way)


def sample(way: Way, state: State) -> list[Race]:
    """Some variants of one attack: every kind twice, and every moment at least twice."""
    moments = list(When)
    pairs = [(kind, moments[(index + turn) % 4]) for turn in (0, 2) for index, kind in enumerate(_FORGED)]
    found = [Race(state, way, kind, when) for kind, when in [*pairs, (Kind.NONE, When.BEFORE)]]
    return [*found, *_entries(way)] if state is State.OFF else found


def _entries(way: Way) -> Iterator[Race]:
    """The host has just gone off, or has never been seen."""
    for entry, kind in itertools.product(("reachable", "none"), (Kind.NONE, Kind.OWN, Kind.NAMED)):
        yield Race(State.OFF, way, kind, When.AFTER, entry)
