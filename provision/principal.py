"""Who asks for an operator's work: one value, from the edge that authenticated it to the audit log that names it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PrincipalRole(StrEnum):
    """What a principal is trusted with; each member may do what those before it may."""

    READER = "reader"
    """Looks at hosts, images, credentials' names and progress."""
    AUDITOR = "auditor"
    """Reads the audit log, too."""
    OPERATOR = "operator"
    """Changes the site, and takes media, which carry secrets."""
    ADMIN = "admin"
    """Says that store or clock are to be believed."""

    def includes(self, other: PrincipalRole) -> bool:
        """Whether this role may do what `other` may."""
        order = list(PrincipalRole)
        return order.index(self) >= order.index(other)


class Authentication(StrEnum):
    """How it is known who asks."""

    PEER_CREDENTIALS = "peer-credentials"
    """The kernel says which user is at the other end of the Unix socket (SO_PEERCRED, unix(7))."""


@dataclass(frozen=True)
class Principal:
    """Somebody who was authenticated; `name` is what the audit log calls them, such as "uid=0"."""

    name: str
    role: PrincipalRole
    authentication: Authentication

    def __str__(self) -> str:
        return self.name

    def may(self, role: PrincipalRole) -> bool:
        """Whether the principal may do what `role` may."""
        return self.role.includes(role)
