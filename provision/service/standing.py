"""Whether who asks is somebody still: a token may be revoked while what it was shown for goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from provision.errors import Unauthenticated
from provision.principal import Authentication, Principal
from provision.store.store import Store


def require(store: Store, principal: Principal) -> None:
    """Raise Unauthenticated when the principal's token has been revoked. Its expiry ends nothing that has begun."""
    if principal.authentication is Authentication.TOKEN and not store.tokens.stands(principal):
        raise Unauthenticated("request", "has no valid token any more", "log in with 'provision login'")


@contextmanager
def standing(store: Store, principal: Principal) -> Iterator[None]:
    """Revoke no token within this context, and raise as `require` does: what is stored in it is found by whoever
    revokes the token of its maker."""
    with store.database.lock:
        require(store, principal)
        yield
