"""An open database with its key: transactions, the order of opening, and nothing of what the tables mean."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, select, update

from provision.errors import Unavailable
from provision.store import dialect, migrations, trust
from provision.store.chain import Known
from provision.store.dialect import Statement
from provision.store.keys import DATABASE, MasterKey, Purpose
from provision.store.ledger import Change, Ledger, Record, Row, Standing
from provision.store.schema import credentials, meta, windows
from provision.store.trust import Found

_RECORD = "record"
_c = meta.c
_NEW_RECORD = Statement(
    update(meta)
    .where(_c.name == _RECORD, _c.value == bindparam("old"))
    .values(value=bindparam("new"))
    .returning(_c.name)
)


class Database:
    """The ground of the store's parts. Writers take turns, and what they keep in memory changes under `_lock`."""

    def __init__(self, engine: Engine, subject: str, key: MasterKey) -> None:
        self._engine = engine
        self._writer = dialect.writer(engine)
        self._quick_writer = dialect.writer(engine, durable=False)
        self._subject = subject
        self._key = key
        self._lock = threading.RLock()
        self._ledger = Ledger(key.subkey(Purpose.STORE))
        self._record, self._stored_record = Record(), ""
        self._found = Found(Standing.MISSING, self._record, True)
        self._change = Change(self._ledger)
        self._distrust = trust.UNKNOWN

    @classmethod
    def open(cls, state: Path, key: MasterKey, url: str | None = None) -> Self:
        """Open `<state>/provision.db` (or the database at `url`), bring its schema up to date and read it once.

        Raises Unavailable when it cannot be opened, is damaged, was made by a newer program or sealed with another
        key; then nothing has been changed.
        """
        subject = str(state / DATABASE) if url is None else "database"
        engine = dialect.open_file(state / DATABASE) if url is None else dialect.open_url(url)
        store = cls(engine, subject, key)
        try:
            dialect.verify(engine, subject)
            with store._read() as connection:
                if migrations.check(connection, subject):
                    store._check_key(connection)
            with dialect.errors(subject):
                migrations.migrate(store._writer, subject)
            with store._write() as connection:
                store._check_key(connection)
                store._begin_record(connection)
            with store._read() as connection:
                store._read_ledger(connection)
                store._load_all(connection)
        except BaseException:
            engine.dispose()
            raise
        return store

    @property
    def generation(self) -> int:
        """How many durable changes the database has seen."""
        return self._record.generation

    @property
    def distrust(self) -> str:
        """Why what is stored is not believed; "" when it is. While it is not, nothing that is believed is written."""
        return self._distrust

    @property
    def has_own_fault(self) -> bool:
        """Whether the database itself shows why it is not believed, so that another one in its place may be."""
        return self._distrust not in trust.OF_THE_LOG

    def judge(self, known: Known) -> bool:
        """Compare what was opened with what the audit log knows; True when it was authenticated just now.

        A database that was made before rows were authenticated is taken as it is, once. Raises Unavailable.
        """
        self._distrust = trust.distrust(self._found, known)
        if self._distrust or self._found.standing is not Standing.MISSING:
            return False
        self._authenticate(1)
        return True

    def accept(self, known: int = 0) -> tuple[int, int]:
        """Believe the database as it is now, with every window closed, as newer than the generation `known`.

        Returns the generations that it had and has. Raises Unavailable.
        """
        with self._lock:
            before = self._record.generation
            self._authenticate(max(before, known) + 1, close_windows=True)
            with self._read() as connection:
                self._load_all(connection)
            return before, self._record.generation

    def recheck(self) -> bool:
        """Read every row again, and say whether they still are what was written; takes a while. Raises Unavailable."""
        with self._lock, self._read() as connection:
            ledger = Ledger(self._key.subkey(Purpose.STORE))
            ledger.read(connection)
            stored = connection.execute(select(_c.value).where(_c.name == _RECORD)).scalar()
            if not self._distrust and (ledger.total, stored) != (self._ledger.total, self._stored_record):
                self._distrust = trust.CHANGED
        return not self._distrust

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def is_busy(self) -> bool:
        """Whether another thread is writing, so that a writer would wait."""
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, connection: Connection) -> None:
        """Fill what is kept in memory; every part extends it."""

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with dialect.errors(self._subject), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self, durable: bool = True) -> Iterator[Connection]:
        """A transaction; what it changes of the rows that are believed is noted in `_change` while it runs."""
        writer = self._writer if durable else self._quick_writer
        with self._lock, dialect.errors(self._subject):
            change = self._change = Change(self._ledger)
            try:
                with writer.begin() as connection:
                    yield connection
                    record, stored = self._put_record(connection, change, durable)
            finally:
                self._change = Change(self._ledger)
            self._ledger.commit(change)
            self._record, self._stored_record = record, stored

    def _put_record(self, connection: Connection, change: Change, durable: bool) -> tuple[Record, str]:
        """Write what the rows are to be now. What a power cut may undo is no generation of its own: with it or without
        it, the same has been given away."""
        if not change.differences:
            return self._record, self._stored_record
        self._require_trust()
        last_boot = max(self._record.last_boot, change.last_boot)
        record = Record(self._record.generation + (1 if durable else 0), last_boot)
        stored = self._ledger.record(record, change.total)
        if not _NEW_RECORD.run(connection, old=self._stored_record, new=stored):
            raise self._lost_trust()
        return record, stored

    def _require_trust(self) -> None:
        if self._distrust:
            raise Unavailable(self._subject, self._distrust, trust.REMEDY)

    def _lost_trust(self) -> Unavailable:
        """The error for what is not as it was written; from now on nothing stored is believed."""
        self._distrust = self._distrust or trust.CHANGED
        return Unavailable(self._subject, self._distrust, trust.REMEDY)

    def _owned(self, connection: Connection, statement: Statement, table: Table, host_id: str) -> list[Row]:
        """All rows of a host, as the driver gives them; `statement` reads them by its parameter `host`. Under `_lock`.

        Raises Unavailable when they are not what was written last.
        """
        rows = statement.run(connection, host=host_id)
        if not self._change.owns(table, host_id, rows):
            raise self._lost_trust()
        return list(rows)

    def _begin_record(self, connection: Connection) -> None:
        """Give a database that holds nothing yet its first record."""
        self._read_ledger(connection)
        if self._found.standing is Standing.MISSING and self._found.empty:
            stored = self._ledger.record(Record(1), 0)
            connection.execute(insert(meta).values(name=_RECORD, value=stored))

    def _read_ledger(self, connection: Connection) -> None:
        self._ledger = Ledger(self._key.subkey(Purpose.STORE))
        self._change = Change(self._ledger)
        self._ledger.read(connection)
        stored = connection.execute(select(_c.value).where(_c.name == _RECORD)).scalar()
        standing, self._record = self._ledger.standing(stored)
        self._stored_record = stored or ""
        self._found = Found(standing, self._record, self._ledger.is_empty)
        self._distrust = trust.alone(self._found)

    def _authenticate(self, generation: int, close_windows: bool = False) -> None:
        """Write the record of the rows that there are."""
        with self._lock, dialect.errors(self._subject), self._writer.begin() as connection:
            if close_windows:
                connection.execute(update(windows).values(closed=True))
            self._read_ledger(connection)
            last_boot = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM boots").scalar()
            record = Record(generation, max(self._record.last_boot, int(last_boot or 0)))
            stored = self._ledger.record(record, self._ledger.total)
            connection.execute(delete(meta).where(_c.name == _RECORD))
            connection.execute(insert(meta).values(name=_RECORD, value=stored))
        with self._lock:
            self._record, self._stored_record, self._distrust = record, stored, ""

    def _load_all(self, connection: Connection) -> None:
        """Fill what is kept in memory; raises Unavailable for rows that nobody can make sense of."""
        try:
            if self._distrust and not Ledger.is_readable(connection):
                raise ValueError("a column has a value of another kind")
            self._load(connection)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Unavailable(self._subject, "holds a row that is damaged", "restore it from a backup") from None

    def _check_key(self, connection: Connection) -> None:
        """Compare the key with the one that sealed this database; a new database takes the key that it is given."""
        mine = hmac.digest(self._key.subkey(Purpose.CHECK).reveal(), b"provision store", hashlib.sha256).hex()
        theirs = connection.execute(select(meta.c.value).where(meta.c.name == "key-check")).scalar()
        if theirs is None and not connection.execute(select(func.count()).select_from(credentials)).scalar():
            if connection.get_execution_options().get("provision_write"):
                connection.execute(insert(meta).values(name="key-check", value=mine))
        elif theirs is None or not hmac.compare_digest(mine.encode(), theirs.encode()):
            raise Unavailable(
                self._subject,
                "was sealed with another master key",
                "restore the key from the backup that belongs to this database",
            )
