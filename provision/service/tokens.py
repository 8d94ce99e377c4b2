"""Tokens: an admin makes them for those who are not on the server, and revokes them."""

from __future__ import annotations

from datetime import datetime

from provision import token
from provision.api import tokens as api
from provision.principal import Principal
from provision.service.core import Core
from provision.token import Token


class Tokens:
    """Makes, lists and revokes tokens."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(self, wanted: api.NewToken, principal: Principal) -> api.CreatedToken:
        """Make a token and show it, this once. Raises Conflict when its name is taken."""
        core, secret, now = self._core, token.new(), self._core.clock()
        selector = tuple(sorted(wanted.selector.items()))
        made = Token(wanted.name, wanted.role, selector, now, token.expiry(wanted.days, now), principal.name)
        fields = {"token": made.name, "role": str(made.role), "selector": token.spelled_or_all(made.selector)}
        with core.act("token-created", principal, **fields):
            core.store.tokens.add(secret, made)
        core.witness()
        return api.CreatedToken(**dict(_row(made, None, now)), token=secret.reveal().decode())

    def listing(self) -> list[api.TokenRow]:
        """Every token, without what it takes to use it."""
        now = self._core.clock()
        return [_row(known, used, now) for known, used in self._core.store.tokens.all()]

    def revoke(self, name: str, principal: Principal) -> None:
        """Let a token be good for nothing from now on, and so every link that was made with it; raises NotFound."""
        core = self._core
        known = core.store.tokens.require(name)
        # Under one lock: no link is made with it in between, and who is killed in between may say it again.
        with core.act("token-revoked", principal, token=name), core.store.database.lock:
            core.store.links.revoke_of(known.principal.name)
            core.store.tokens.remove(name)
        core.witness()


def _row(known: Token, used: datetime | None, now: datetime) -> api.TokenRow:
    return api.TokenRow(
        name=known.name,
        role=known.role,
        selector=dict(known.selector),
        created=known.created.isoformat(),
        expires=known.expires.isoformat(),
        good=known.is_good(now),
        used=used.isoformat() if used else None,
        actor=known.actor,
    )
