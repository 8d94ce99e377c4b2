"""Whether who asks is somebody still: a token may be revoked while what it was shown for goes on, and a principal of
Kerberos be in the settings no longer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from provision.errors import Unauthenticated
from provision.principal import Authentication, Principal, PrincipalRole
from provision.settings import Settings
from provision.store.store import Store
from provision.ticket import granted, is_principal


def require(store: Store, principal: Principal) -> None:
    """Raise Unauthenticated when the principal's token has been revoked. Its expiry ends nothing that has begun."""
    if principal.authentication is Authentication.TOKEN and not store.tokens.stands(principal):
        raise Unauthenticated("request", "has no valid token any more", "log in with 'provision login'")


def require_any(store: Store, principals: Sequence[Principal]) -> None:
    """Raise as `require` does when none of the principals is somebody any more."""
    for principal in principals[:-1]:
        with suppress(Unauthenticated):
            require(store, principal)
            return
    require(store, principals[-1])


@contextmanager
def standing(store: Store, principal: Principal) -> Iterator[None]:
    """Revoke no token within this context, and raise as `require` does: what is stored in it is found by whoever
    revokes the token of its maker."""
    with store.database.lock:
        require(store, principal)
        yield


def is_link_of_somebody(settings: Settings, actor: str, labels: Mapping[str, str]) -> bool:
    """Whether the maker of a link to a host with these `labels` could still make it, as far as the settings say.

    What somebody makes by a token is revoked with it, and ends so in the store. A principal of Kerberos is somebody by
    the settings alone, so that its links are looked at when they are used.
    """
    if not is_principal(actor):
        return True
    kerberos = settings.api.kerberos if settings.api is not None else None
    grant = granted(kerberos.role, actor) if kerberos is not None else None
    if grant is None or not grant.role.includes(PrincipalRole.OPERATOR):
        return False
    return all(labels.get(label) == value for label, value in grant.selector.items())
