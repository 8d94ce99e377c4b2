"""An open database with its key: transactions, the order of opening, and nothing of what the tables mean."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, select, update

from provision.errors import Invalid, Unavailable
from provision.store import dialect, migrations, trust
from provision.store.chain import Known
from provision.store.dialect import Statement
from provision.store.keys import DATABASE, MasterKey, Purpose
from provision.store.ledger import Ledger, Posting, Record, Row, Standing
from provision.store.schema import credentials, links, meta, token_uses, tokens, tpm_imports, tpm_windows, windows
from provision.store.trust import Found

_RECORD = "record"
_c = meta.c
_NEW_RECORD = Statement(
    update(meta)
    .where(_c.name == _RECORD, _c.value == bindparam("old"))
    .values(value=bindparam("new"))
    .returning(_c.name)
)


class Transaction:
    """One transaction of the store: its `connection`, and what it does to the rows that are believed."""

    def __init__(self, connection: Connection, database: Database, posting: Posting) -> None:
        self.connection, self.posting, self._database = connection, posting, database

    def owned(self, statement: Statement, table: Table, host_id: str) -> list[Row]:
        """All rows of a host, as the driver gives them; `statement` reads them by its parameter `host`. For callers
        that hold the database's lock.

        Raises Unavailable when they are not what was written last.
        """
        rows = statement.run(self.connection, host=host_id)
        if not self.posting.owns(table, host_id, rows):
            raise self._database.lost_trust()
        return list(rows)

    def begin_boot(self, number: int) -> None:
        """A boot gets this number. What its seed says comes of it, so no number may come back; raises Unavailable."""
        if number <= max(self._database.last_boot, self.posting.last_boot):
            raise self._database.lost_trust()
        self.posting.last_boot = number


class Database:
    """What the store's parts stand on. Writers take turns, and what they keep in memory changes under `lock`."""

    def __init__(self, engine: Engine, subject: str, key: MasterKey) -> None:
        self.engine = engine
        self._writer = dialect.writer(engine)
        self._quick_writer = dialect.writer(engine, durable=False)
        self.subject = subject
        self._key = key
        self.lock = threading.RLock()
        self._ledger = Ledger(key.subkey(Purpose.STORE))
        self._record, self._stored_record = Record(), ""
        self._found = Found(Standing.MISSING, self._record, True)
        self._distrust = trust.UNKNOWN

    @classmethod
    def open(cls, state: Path, key: MasterKey, url: str | None = None) -> Self:
        """Open `<state>/provision.db` (or the database at `url`), and bring its schema up to date. `load` comes next.

        Raises Unavailable when it cannot be opened, is damaged, was made by a newer program or sealed with another
        key; then nothing has been changed.
        """
        subject = str(state / DATABASE) if url is None else "database"
        engine = dialect.open_file(state / DATABASE) if url is None else dialect.open_url(url)
        database = cls(engine, subject, key)
        try:
            dialect.verify(engine, subject)
            with database.read() as tx:
                if migrations.check(tx.connection, subject):
                    database._check_key(tx.connection)
            with dialect.errors(subject):
                migrations.migrate(database._writer, subject)
            with database.write() as tx:
                database._check_key(tx.connection)
                database._begin_record(tx.connection)
        except BaseException:
            engine.dispose()
            raise
        return database

    @property
    def generation(self) -> int:
        """How many durable changes the database has seen."""
        return self._record.generation

    @property
    def last_boot(self) -> int:
        """The highest number that a boot has had."""
        return self._record.last_boot

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
        """Believe the database as it is now, with every window closed, every token and link revoked and every imported
        fingerprint forgotten, as newer than the generation `known`.

        `load` comes next. Returns the generations that it had and has. Raises Unavailable.
        """
        with self.lock:
            before = self._record.generation
            self._authenticate(max(before, known) + 1, as_found=True)
            return before, self._record.generation

    def recheck(self) -> bool:
        """Read every row again, and say whether they still are what was written; takes a while. Raises Unavailable."""
        with self.lock, self.read() as tx:
            ledger = Ledger(self._key.subkey(Purpose.STORE))
            ledger.read(tx.connection)
            stored = tx.connection.execute(select(_c.value).where(_c.name == _RECORD)).scalar()
            if not self._distrust and (ledger.total, stored) != (self._ledger.total, self._stored_record):
                self._distrust = trust.CHANGED
        return not self._distrust

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @property
    def is_busy(self) -> bool:
        """Whether another thread is writing, so that a writer would wait."""
        if not self.lock.acquire(blocking=False):
            return True
        self.lock.release()
        return False

    def load(self, *parts: Callable[[Connection], None]) -> None:
        """Sum up all rows, and let each of the parts read what it keeps in memory, all of one moment: what is in
        memory is what the sums are of. Raises Unavailable for rows that nobody can make sense of."""
        with self.lock, self.read() as tx:
            self._read_ledger(tx.connection)
            try:
                if self._distrust and not Ledger.is_readable(tx.connection):
                    raise ValueError("a column has a value of another kind")
                for part in parts:
                    part(tx.connection)
            except (Invalid, ValueError, TypeError, LookupError, AttributeError):
                raise Unavailable(self.subject, "holds a row that is damaged", "restore it from a backup") from None

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that changes nothing."""
        with dialect.errors(self.subject), self.engine.begin() as connection:
            yield Transaction(connection, self, Posting(self._ledger))

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[Transaction]:
        """A transaction that may change something; when it is not `durable` a power cut may undo it."""
        writer = self._writer if durable else self._quick_writer
        with self.lock, dialect.errors(self.subject):
            with writer.begin() as connection:
                tx = Transaction(connection, self, Posting(self._ledger))
                yield tx
                record, stored = self._put_record(connection, tx.posting, durable)
            self._ledger.commit(tx.posting)
            self._record, self._stored_record = record, stored

    def _put_record(self, connection: Connection, posting: Posting, durable: bool) -> tuple[Record, str]:
        """Write what the rows are to be now. What a power cut may undo is not a generation of its own: with it or
        without it, the same has been given away."""
        if not posting.differences:
            return self._record, self._stored_record
        self.require_trust()
        last_boot = max(self._record.last_boot, posting.last_boot)
        record = Record(self._record.generation + (1 if durable else 0), last_boot)
        stored = self._ledger.record(record, posting.total)
        if not _NEW_RECORD.run(connection, old=self._stored_record, new=stored):
            raise self.lost_trust()
        return record, stored

    def require_trust(self) -> None:
        """Raise Unavailable when what is stored is not believed."""
        if self._distrust:
            raise Unavailable(self.subject, self._distrust, trust.REMEDY)

    def lost_trust(self) -> Unavailable:
        """The error for what is not as it was written; from now on nothing stored is believed."""
        self._distrust = self._distrust or trust.CHANGED
        return Unavailable(self.subject, self._distrust, trust.REMEDY)

    def forget_deleted(self) -> None:
        """Leave nothing on the disk of rows that were just removed."""
        dialect.forget_deleted(self.engine, self.subject)

    def _begin_record(self, connection: Connection) -> None:
        """Give a database that holds nothing yet its first record."""
        self._read_ledger(connection)
        if self._found.standing is Standing.MISSING and self._found.empty:
            stored = self._ledger.record(Record(1), 0)
            connection.execute(insert(meta).values(name=_RECORD, value=stored))

    def _read_ledger(self, connection: Connection) -> None:
        self._ledger = Ledger(self._key.subkey(Purpose.STORE))
        self._ledger.read(connection)
        stored = connection.execute(select(_c.value).where(_c.name == _RECORD)).scalar()
        standing, self._record = self._ledger.standing(stored)
        self._stored_record = stored or ""
        self._found = Found(standing, self._record, self._ledger.is_empty)
        self._distrust = trust.alone(self._found)

    def _authenticate(self, generation: int, as_found: bool = False) -> None:
        """Write the record of the rows that there are; what lets anybody do anything is over in those `as_found`."""
        with self.lock, dialect.errors(self.subject), self._writer.begin() as connection:
            if as_found:
                connection.execute(update(windows).values(closed=True))
                connection.execute(update(links).values(revoked=True))
                connection.execute(delete(tokens))
                for table in (token_uses, tpm_windows, tpm_imports):
                    connection.execute(delete(table))
            self._read_ledger(connection)
            last_boot = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM boots").scalar()
            record = Record(generation, max(self._record.last_boot, int(last_boot or 0)))
            stored = self._ledger.record(record, self._ledger.total)
            connection.execute(delete(meta).where(_c.name == _RECORD))
            connection.execute(insert(meta).values(name=_RECORD, value=stored))
        with self.lock:
            self._record, self._stored_record, self._distrust = record, stored, ""

    def _check_key(self, connection: Connection) -> None:
        """Compare the key with the one that sealed this database; a new database takes the key that it is given."""
        mine = hmac.digest(self._key.subkey(Purpose.CHECK).reveal(), b"provision store", hashlib.sha256).hex()
        theirs = connection.execute(select(meta.c.value).where(meta.c.name == "key-check")).scalar()
        if theirs is None and not connection.execute(select(func.count()).select_from(credentials)).scalar():
            if connection.get_execution_options().get("provision_write"):
                connection.execute(insert(meta).values(name="key-check", value=mine))
        elif theirs is None or not hmac.compare_digest(mine.encode(), theirs.encode()):
            raise Unavailable(
                self.subject,
                "was sealed with another master key",
                "restore the key from the backup that belongs to this database",
            )
