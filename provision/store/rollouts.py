"""The roll-out of a base image: which hosts have another base than the inventory says, and what came of it.

There is one at a time. A host that was moved has the roll-out's base until the roll-out is ended, whatever is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from provision.store.database import Database, Transaction
from provision.store.ledger import Row
from provision.store.rows import raw
from provision.store.schema import rollout_hosts, rollouts
from provision.store.snapshot import Picture

_h = rollout_hosts.c


class RolloutState(StrEnum):
    """What a roll-out is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"


class Outcome(StrEnum):
    """What came of a host that was moved."""

    PENDING = "pending"
    UP = "up"
    FAILED = "failed"


@dataclass(frozen=True)
class Rollout:
    """A roll-out of `base` to the hosts whose label is `label`=`value` ("": to all), `percent` of them at a time, as
    long as no more than `failures` fail; a boot has `minutes` to come up."""

    base: str
    label: str
    value: str
    percent: int
    failures: int
    minutes: int
    state: RolloutState
    started: datetime
    actor: str


@dataclass(frozen=True)
class Moved:
    """A host that has the roll-out's base: since when, and what came of it."""

    at: datetime
    outcome: Outcome = Outcome.PENDING


class Rollouts:
    """The part of the store that knows the roll-out; all of it is in memory, too."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._current: Rollout | None = None
        self._hosts: dict[str, Moved] = {}

    def current(self) -> Rollout | None:
        """The roll-out, if there is one."""
        return self._current

    def hosts(self) -> dict[str, Moved]:
        """The hosts that were moved, by name."""
        names = self._picture.names()
        with self._database.lock:
            return {names[key]: moved for key, moved in sorted(self._hosts.items()) if key in names}

    def put(self, rollout: Rollout) -> None:
        """Write down a new roll-out, or what has become of it; its hosts stay as they are."""
        with self._database.lock:
            with self._database.write() as tx:
                tx.connection.execute(delete(rollouts))
                tx.posting.drop(rollouts, "")
                values = _values(rollout)
                tx.connection.execute(insert(rollouts).values(values))
                tx.posting.add(rollouts, tuple(map(raw, values.values())))
            self._current = rollout
            self._show()

    def move(self, names: Sequence[str], now: datetime) -> None:
        """Give these hosts the roll-out's base, all or none. Raises NotFound."""
        keys = [self._picture.host_id(name) for name in names]
        with self._database.lock:
            with self._database.write() as tx:
                for key in keys:
                    _put_host(tx, key, Moved(now), new=True)
            self._hosts |= {key: Moved(now) for key in keys}
            self._show()

    def settle(self, outcomes: Mapping[str, Outcome]) -> None:
        """Write down what came of hosts that were moved."""
        with self._database.lock:
            changed = {self._picture.host_id(name): outcome for name, outcome in outcomes.items()}
            settled = {key: replace(self._hosts[key], outcome=outcome) for key, outcome in changed.items()}
            with self._database.write() as tx:
                for key, moved in settled.items():
                    _put_host(tx, key, moved, new=False)
            self._hosts |= settled

    def end(self) -> None:
        """Let there be no roll-out: every host has the base that the inventory says."""
        with self._database.lock:
            with self._database.write() as tx:
                tx.connection.execute(delete(rollouts))
                tx.connection.execute(delete(rollout_hosts))
                tx.posting.drop(rollouts, "")
                for key in self._hosts:
                    tx.posting.drop(rollout_hosts, key)
            self._current, self._hosts = None, {}
            self._show()

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory; the picture shows it when it is read next."""
        self._hosts = {
            key: Moved(at, Outcome(outcome)) for key, at, outcome in connection.execute(select(rollout_hosts))
        }
        row = connection.execute(select(*list(rollouts.c)[1:])).one_or_none()
        self._current = Rollout(**dict(row._mapping) | {"state": RolloutState(row.state)}) if row is not None else None
        self._picture.moved = self._moved()

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._hosts = {key: moved for key, moved in self._hosts.items() if key in kept}
        self._picture.moved = self._moved()

    def _moved(self) -> dict[str, str]:
        base = self._current.base if self._current is not None else ""
        return dict.fromkeys(self._hosts, base) if base else {}

    def _show(self) -> None:
        self._picture.moved = self._moved()
        self._picture.show_bases(self._picture.snapshot.bases)


def _values(rollout: Rollout) -> dict[str, Any]:
    return {"id": 1, **{name: getattr(rollout, name) for name in rollouts.c.keys()[1:]}, "state": rollout.state.value}


def _put_host(tx: Transaction, key: str, moved: Moved, *, new: bool) -> None:
    values = {"host_id": key, "at": moved.at, "outcome": moved.outcome.value}
    row: Row = tuple(map(raw, values.values()))
    if new:
        tx.connection.execute(insert(rollout_hosts).values(values))
    else:
        tx.connection.execute(update(rollout_hosts).where(_h.host_id == key).values(outcome=moved.outcome.value))
        tx.posting.drop(rollout_hosts, key)
    tx.posting.add(rollout_hosts, row)
