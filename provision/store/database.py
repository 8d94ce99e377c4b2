"""An open database with its key: transactions, the order of opening, and nothing of what the tables mean."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine, func, insert, select

from provision.errors import Unavailable
from provision.store import dialect, migrations
from provision.store.keys import DATABASE, MasterKey, Purpose
from provision.store.schema import credentials, meta


class Database:
    """The ground of the store's parts. Writers take turns, and what they keep in memory changes under `_lock`."""

    def __init__(self, engine: Engine, subject: str, key: MasterKey) -> None:
        self._engine = engine
        self._writer = dialect.writer(engine)
        self._quick_writer = dialect.writer(engine, durable=False)
        self._subject = subject
        self._key = key
        self._lock = threading.RLock()

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
            with store._read() as connection:
                store._load(connection)
        except BaseException:
            engine.dispose()
            raise
        return store

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
        writer = self._writer if durable else self._quick_writer
        with self._lock, dialect.errors(self._subject), writer.begin() as connection:
            yield connection

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
