"""Who asks in tests."""

from __future__ import annotations

from provision.principal import Authentication, Principal, PrincipalRole

ROOT = Principal("uid=0", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)


def with_role(role: PrincipalRole) -> Principal:
    """Somebody of that role."""
    return Principal(f"a {role}", role, Authentication.PEER_CREDENTIALS)
