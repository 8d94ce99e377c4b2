"""The journal of boots by BMCs: what was begun is here before it is done, until it is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from provision.store.database import Database
from provision.store.dialect import Statement
from provision.store.ledger import Row
from provision.store.rows import raw
from provision.store.schema import as_time, bmc_boots
from provision.store.snapshot import Picture

_OF_HOST = Statement(select(bmc_boots).where(bmc_boots.c.host_id == bindparam("host")))


@dataclass(frozen=True)
class BmcBoot:
    """A boot of a host that began at `started` for `actor`, of a machine that `was_off`; `steps` have begun."""

    host: str
    started: datetime
    was_off: bool
    steps: tuple[str, ...]
    actor: str


class BmcBoots:
    """The part of the store that knows boots by BMCs, at most one of each host."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture

    def put(self, boot: BmcBoot) -> None:
        """Write it down, durably, instead of what the host had. Raises NotFound."""
        host_id = self._picture.host_id(boot.host)
        values: dict[str, Any] = {
            "host_id": host_id,
            "started": boot.started,
            "was_off": boot.was_off,
            "steps": " ".join(boot.steps),
            "actor": boot.actor,
        }
        with self._database.write() as tx:
            tx.owned(_OF_HOST, bmc_boots, host_id)
            tx.connection.execute(delete(bmc_boots).where(bmc_boots.c.host_id == host_id))
            tx.posting.drop(bmc_boots, host_id)
            tx.connection.execute(insert(bmc_boots).values(values))
            tx.posting.add(bmc_boots, tuple(raw(value) for value in values.values()))

    def remove(self, host: str) -> None:
        """Nothing of the host is to be undone any more."""
        host_id = self._picture.host_id(host)
        with self._database.write() as tx:
            tx.connection.execute(delete(bmc_boots).where(bmc_boots.c.host_id == host_id))
            tx.posting.drop(bmc_boots, host_id)

    def all(self) -> list[BmcBoot]:
        """Every boot that is under way or was left behind, by host. Raises Unavailable."""
        names, found = self._picture.names(), []
        with self._database.lock, self._database.read() as tx:
            ids: Sequence[str] = [row[0] for row in tx.connection.execute(select(bmc_boots.c.host_id))]
            for host_id in ids:
                if host_id in names:
                    found += [_boot(row, names[host_id]) for row in tx.owned(_OF_HOST, bmc_boots, host_id)]
        return sorted(found, key=lambda boot: boot.host)


def _boot(row: Row, host: str) -> BmcBoot:
    _, started, was_off, steps, actor = row
    moment = as_time(started)
    assert moment is not None  # noqa: S101  (not null)
    return BmcBoot(host, moment, bool(was_off), tuple(steps.split()), actor)
