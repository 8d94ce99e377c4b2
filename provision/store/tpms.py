"""TPMs of hosts, as `provision.enrolled_tpm` has them: one that is enrolled, and a few that wait to be accepted.

What is encrypted for a TPM goes by these rows, so that each has a tag of its own besides the ledger's sum: whoever
accepts a database that somebody else has written to encrypts nothing to that one's key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from provision.enrolled_tpm import EnrolledTpm, KeyKind
from provision.errors import Conflict, NotFound
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.keys import MasterKey, Purpose
from provision.store.ledger import Row
from provision.store.rows import raw
from provision.store.schema import as_time, tpm_loaders, tpm_openings, tpm_starts, tpms
from provision.store.snapshot import EMPTY, Picture

MOST_PENDING = 4
"""TPMs of one host that may wait at a time: its own, and some of whoever answered in its place."""

_OF_HOST = Statement(select(tpms).where(tpms.c.host_id == bindparam("host")))
_ALL = Statement(select(tpms))
_LOADERS_OF_HOST = Statement(select(tpm_loaders).where(tpm_loaders.c.host_id == bindparam("host")))
_ALL_LOADERS = Statement(select(tpm_loaders))
_NAMES, _LOADER_NAMES = tpms.c.keys(), tpm_loaders.c.keys()


class Tpms:
    """The part of the store that knows TPMs. All of them are in memory, too: policy asks for them."""

    def __init__(self, database: Database, picture: Picture, key: MasterKey) -> None:
        self._database, self._picture = database, picture
        self._key = key.subkey(Purpose.TPMS).reveal()
        self._known: dict[str, dict[str, EnrolledTpm]] = {}
        """By host and fingerprint."""
        self._starts: dict[str, tuple[int, int]] = {}
        self._opened: dict[str, int] = {}

    def get(self, host: str) -> EnrolledTpm | None:
        """The TPM that is enrolled for the host."""
        return next((one for one in self._of(host).values() if not one.is_pending), None)

    def holds(self, host: str) -> bool:
        """Whether the host has any, enrolled or waiting."""
        return bool(self._of(host))

    def pending(self, host: str) -> tuple[EnrolledTpm, ...]:
        """The TPMs that wait to be accepted, the oldest first."""
        return tuple(sorted((one for one in self._of(host).values() if one.is_pending), key=lambda one: one.at))

    def all(self) -> tuple[EnrolledTpm, ...]:
        """Every TPM of every host, by the hosts' names."""
        with self._database.lock:
            return tuple(one for _, known in sorted(self._known.items()) for one in known.values())

    def put(self, tpm: EnrolledTpm) -> None:
        """Know this TPM as one of its host's. One that is enrolled ends all that waited.

        Raises NotFound, and Conflict when another one is enrolled, too many wait, or another host has it.
        """
        host_id = self._picture.host_id(tpm.host)
        with self._database.lock:
            self.require_place(tpm)
            with self._database.write() as tx:
                found = tx.owned(_OF_HOST, tpms, host_id)
                _require_place(tpm, {row[1]: row[_NAMES.index("known")] for row in found})
                loaders = tx.owned(_LOADERS_OF_HOST, tpm_loaders, host_id)
                self.removing(tx, tpm.host)
                kept = [row for row in found if tpm.is_pending and row[1] != tpm.fingerprint]
                for row in (*kept, self._row(host_id, tpm)):
                    tx.connection.execute(insert(tpms).values(_values(row)))
                    tx.posting.add(tpms, row)
                of_kept = [row for row in loaders if row[1] in {one[1] for one in kept}]
                for row in (*of_kept, *_loader_rows(host_id, tpm)):
                    tx.connection.execute(insert(tpm_loaders).values(dict(zip(_LOADER_NAMES, row, strict=True))))
                    tx.posting.add(tpm_loaders, row)
            others = self._of(tpm.host) if tpm.is_pending else EMPTY
            self._known[tpm.host] = {**others, tpm.fingerprint: tpm}
            self._forget(tpm.host)

    def start(self, host: str) -> tuple[int, int] | None:
        """How often the host's TPM had been reset, and restarted since, when it last proved a boot."""
        return self._starts.get(host)

    def rise(self, host: str, start: tuple[int, int]) -> None:
        """Know that the TPM of the host has been started so often. Raises NotFound, and Conflict when it had been more
        often before: it was cleared, or set back to what it was."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            before = self._starts.get(host, (0, 0))
            if start < before:
                fact = f"it was reset {start[0]} and restarted {start[1]} times, after {before[0]} and {before[1]}"
                remedy = f"if somebody has cleared it, run 'provision tpm remove {host}', and enrol it anew"
                raise Conflict(f"TPM of {host}", fact, remedy)
            if start == self._starts.get(host):
                return
            with self._database.write() as tx:
                tx.connection.execute(delete(tpm_starts).where(tpm_starts.c.host_id == host_id))
                tx.posting.drop(tpm_starts, host_id)
                tx.connection.execute(insert(tpm_starts).values(host_id=host_id, resets=start[0], restarts=start[1]))
                tx.posting.add(tpm_starts, (host_id, *start))
            self._starts[host] = start

    def opened(self, host: str) -> int:
        """The highest number of an envelope that the host says its TPM has opened; 0 for none."""
        return self._opened.get(host, 0)

    def has_opened(self, host: str, number: int) -> None:
        """Know that the TPM of the host has opened the envelope of that number. Raises NotFound and Unavailable."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            if number <= self.opened(host):
                return
            with self._database.write() as tx:
                tx.connection.execute(delete(tpm_openings).where(tpm_openings.c.host_id == host_id))
                tx.posting.drop(tpm_openings, host_id)
                tx.connection.execute(insert(tpm_openings).values(host_id=host_id, number=number))
                tx.posting.add(tpm_openings, (host_id, number))
            self._opened[host] = number

    def remove(self, host: str) -> None:
        """Know none of the host's TPMs any longer, neither the one that is enrolled nor those that wait. Raises
        NotFound, and NotFound when there is none."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            with self._database.write() as tx:
                if not _OF_HOST.run(tx.connection, host=host_id):
                    raise NotFound(f"TPM of {host}", "none is known", f"enrol it: 'provision enroll {host}'")
                show = self.removing(tx, host)
            show()

    def reject(self, host: str, fingerprint: str) -> None:
        """Let one TPM wait no longer. Raises NotFound."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            one = self._of(host).get(fingerprint)
            if one is None or not one.is_pending:
                raise NotFound(f"TPM of {host}", "none with this fingerprint waits", f"see 'provision tpm show {host}'")
            with self._database.write() as tx:
                tx.owned(_OF_HOST, tpms, host_id)
                tx.owned(_LOADERS_OF_HOST, tpm_loaders, host_id)
                for table, rows in ((tpms, [self._row(host_id, one)]), (tpm_loaders, _loader_rows(host_id, one))):
                    of = (table.c.host_id == host_id) & (table.c.fingerprint == fingerprint)
                    tx.connection.execute(delete(table).where(of))
                    for row in rows:
                        tx.posting.remove(table, row)
            self._known[host] = {key: one for key, one in self._of(host).items() if key != fingerprint}

    def removing(self, tx: Transaction, host: str) -> Callable[[], None]:
        """Remove the host's TPMs in a transaction; what is returned shows it in memory afterwards."""
        host_id = self._picture.host_id(host)
        for table in (tpms, tpm_loaders, tpm_starts, tpm_openings):
            tx.connection.execute(delete(table).where(table.c.host_id == host_id))
            tx.posting.drop(table, host_id)

        def show() -> None:
            self._known.pop(host, None)
            self._forget(host)

        return show

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory: only what this program has written."""
        names, self._known = self._picture.names(), {}
        loaders = {(row[0], row[1]): row[2] for row in _ALL_LOADERS.run(connection)}
        self._starts = {names[row[0]]: (row[1], row[2]) for row in connection.execute(select(tpm_starts))}
        self._opened = {names[row[0]]: row[1] for row in connection.execute(select(tpm_openings))}
        for row in _ALL.run(connection):
            tpm = _tpm(row, names[row[0]], loaders.get((row[0], row[1]), ""))
            if hmac.compare_digest(self._row(row[0], tpm)[-1], str(row[-1])):
                self._known.setdefault(tpm.host, {})[tpm.fingerprint] = tpm

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        for name in names:
            self._known.pop(name, None)
            self._forget(name)

    def _forget(self, host: str) -> None:
        """What its TPM is known to have done."""
        self._starts.pop(host, None)
        self._opened.pop(host, None)

    def _of(self, host: str) -> Mapping[str, EnrolledTpm]:
        return self._known.get(host, EMPTY)

    def require_place(self, tpm: EnrolledTpm) -> None:
        """Raise Conflict when `put` would, as far as memory tells: when another TPM is enrolled for the host, too many
        wait, or another host has this one."""
        _require_place(tpm, {one.fingerprint: one.known for one in self._of(tpm.host).values()})
        others = (host for host, known in self._known.items() if host != tpm.host and tpm.fingerprint in known)
        if other := next((host for host in others if not self._known[host][tpm.fingerprint].is_pending), None):
            remedy = f"if it has moved, run 'provision tpm remove {other}' first"
            raise Conflict(f"TPM of {tpm.host}", f"it is enrolled as that of {other}", remedy)

    def _row(self, host_id: str, tpm: EnrolledTpm) -> Row:
        values = (tpm.fingerprint, str(tpm.kind), tpm.key, tpm.known, tpm.attestation, tpm.pcr7, tpm.firmware)
        row = (host_id, *values, raw(tpm.at), tpm.actor)
        texts = [value.hex() if isinstance(value, bytes) else value for value in row]
        texts += [tpm.loader] if tpm.loader else []
        body = json.dumps(["provision tpm", 1, *texts], separators=(",", ":")).encode()
        return (*row, hmac.digest(self._key, body, hashlib.sha256).hex())


def _require_place(tpm: EnrolledTpm, found: Mapping[str, str]) -> None:
    """`found` has the fingerprints that the host has already, each with how it is known."""
    subject = f"TPM of {tpm.host}"
    if any(found.values()):
        raise Conflict(subject, "one is enrolled already", f"run 'provision tpm remove {tpm.host}' first")
    if tpm.is_pending and len(found.keys() - {tpm.fingerprint}) >= MOST_PENDING:
        remedy = f"accept or reject them: see 'provision tpm show {tpm.host}'"
        raise Conflict(subject, f"{MOST_PENDING} wait to be accepted already", remedy)


def _loader_rows(host_id: str, tpm: EnrolledTpm) -> list[Row]:
    return [(host_id, tpm.fingerprint, tpm.loader)] if tpm.loader else []


def _values(row: Row) -> dict[str, Any]:
    """What a row's columns get, which are as the driver gives them."""
    values = dict(zip(_NAMES, row, strict=True))
    return values | {"at": as_time(values["at"])}


def _tpm(row: Row, host: str, loader: str) -> EnrolledTpm:
    found = dict(zip(_NAMES, row, strict=True))
    at = as_time(found["at"])
    assert at is not None  # noqa: S101  (not null)
    return EnrolledTpm(
        host=host,
        key=bytes(found["key"]),
        kind=KeyKind(found["kind"]),
        fingerprint=found["fingerprint"],
        known=found["known"],
        attestation=bytes(found["attestation"]),
        pcr7=bytes(found["pcr7"]),
        firmware=found["firmware"],
        at=at,
        actor=found["actor"],
        loader=loader,
    )
