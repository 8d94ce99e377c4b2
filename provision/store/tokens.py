"""Tokens: who may ask from elsewhere. A token is kept as an HMAC only, so that the database is of no use to a thief."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from provision.errors import Conflict, NotFound, Unavailable
from provision.principal import Principal, PrincipalRole
from provision.secret import Secret
from provision.store import schema
from provision.store.database import Database, Transaction
from provision.store.keys import MasterKey, Purpose
from provision.store.rows import raw
from provision.token import Token

MOST = 1000
"""Tokens that there may be: each request compares with one, and an operator reads the list."""

_WRITE_EVERY = 60.0
"""Seconds between two writes of when tokens were used."""

_NAMES = schema.tokens.c.keys()
_log = logging.getLogger(__name__)


class Tokens:
    """The part of the store that knows tokens: all of them are in memory, too."""

    def __init__(self, database: Database, key: MasterKey) -> None:
        self._database, self._key = database, key.subkey(Purpose.TOKENS).reveal()
        self._by_digest: dict[str, Token] = {}
        self._digests: dict[str, str] = {}
        self._used: dict[str, datetime] = {}
        self._unwritten: set[str] = set()
        self._written = 0.0

    def find(self, secret: Secret) -> Token | None:
        """The token, expired or not."""
        return self._by_digest.get(self._digest(secret))

    def holds(self, token: Token) -> bool:
        """Whether this very token is still there: neither revoked nor made anew under its name."""
        return self._by_digest.get(self._digests.get(token.name, "")) == token

    def all(self) -> list[tuple[Token, datetime | None]]:
        """Every token by its name, and when it was used last."""
        with self._database.lock:
            found = sorted(self._by_digest.values(), key=lambda token: token.name)
            return [(token, self._used.get(token.name)) for token in found]

    def add(self, secret: Secret, token: Token) -> None:
        """Take a new token; raises Conflict when its name is taken, or there are too many."""
        digest = self._digest(secret)
        values = dict(zip(_NAMES, (token.name, digest, *_columns(token)), strict=True))
        with self._database.lock:
            if token.name in self._digests:
                fact = "there is a token of this name"
                raise Conflict(f"token '{token.name}'", fact, "take another name, or revoke that one first")
            if len(self._digests) >= MOST:
                raise Conflict("tokens", f"there are {MOST} already", "revoke those that are not used any more")
            with self._database.write() as tx:
                tx.connection.execute(insert(schema.tokens).values(values))
                tx.posting.add(schema.tokens, [raw(value) for value in values.values()])
            self._keep(digest, token)

    def require(self, name: str) -> Token:
        """The token of this name; raises NotFound."""
        if name not in self._digests:
            raise NotFound(f"token '{name}'", "there is no token with this name", "see 'provision token list'")
        return self._by_digest[self._digests[name]]

    def stands(self, principal: Principal) -> bool:
        """Whether the token that `principal` has shown is there still, and not another of its name."""
        known = self._by_digest.get(self._digests.get(principal.name.removeprefix("token:"), ""))
        return known is not None and known.principal == principal

    def remove(self, name: str) -> None:
        """Know a token no longer; raises NotFound."""
        with self._database.lock:
            self.require(name)
            with self._database.write() as tx:
                show = self.removing(tx, (name,))
            show()

    def removing(self, tx: Transaction, names: Sequence[str]) -> Callable[[], None]:
        """Remove tokens that there are in a transaction; what is returned shows it in memory afterwards."""
        for name in names:
            tx.connection.execute(delete(schema.tokens).where(schema.tokens.c.name == name))
            tx.connection.execute(delete(schema.token_uses).where(schema.token_uses.c.name == name))
            tx.posting.drop(schema.tokens, name)

        def show() -> None:
            for name in names:
                del self._by_digest[self._digests.pop(name)]
                self._used.pop(name, None)
                self._unwritten.discard(name)

        return show

    def used(self, token: Token, now: datetime) -> None:
        """Note that a token was used: in memory at once, on the disk a little later."""
        self._used[token.name] = now
        self._unwritten.add(token.name)

    def flush(self, at_once: bool = False) -> None:
        """Write when tokens were used, now and then; a failure is logged and tried again later."""
        with self._database.lock:
            if not self._unwritten or not (at_once or time.monotonic() - self._written >= _WRITE_EVERY):
                return
            self._written, uses = time.monotonic(), schema.token_uses
            rows = [{"name": name, "used": self._used[name]} for name in sorted(self._unwritten & self._digests.keys())]
            try:
                with self._database.write(durable=False) as tx:
                    tx.connection.execute(delete(uses).where(uses.c.name.in_([row["name"] for row in rows])))
                    if rows:
                        tx.connection.execute(insert(uses), rows)
            except Unavailable as error:
                _log.warning("when tokens were used is kept in memory only: %s", error)
                return
            self._unwritten.clear()

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        self._by_digest, self._digests = {}, {}
        for row in connection.execute(select(schema.tokens)):
            self._keep(row.digest, _token(row))
        self._used = {row.name: row.used for row in connection.execute(select(schema.token_uses))}
        self._unwritten.clear()

    def _keep(self, digest: str, token: Token) -> None:
        self._by_digest[digest], self._digests[token.name] = token, digest

    def _digest(self, secret: Secret) -> str:
        # How long a comparison of these takes teaches nobody: without the key, no digest can be chosen.
        return hmac.digest(self._key, secret.reveal(), hashlib.sha256).hex()


def _columns(token: Token) -> Sequence[Any]:
    selector = json.dumps(dict(token.selector), sort_keys=True, separators=(",", ":"))
    return str(token.role), selector, token.created, token.expires, token.actor


def _token(row: Any) -> Token:
    selector = tuple(sorted((str(label), str(value)) for label, value in json.loads(row.selector).items()))
    return Token(row.name, PrincipalRole(row.role), selector, row.created, row.expires, row.actor)
