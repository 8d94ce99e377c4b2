"""Who asks for an operator's work: one value, from the edge that authenticated it to the audit log that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PrincipalRole(StrEnum):
    """What a principal is trusted with; each member may do what those before it may."""

    READER = "reader"
    """Looks at hosts, images, credentials' names and progress."""
    AUDITOR = "auditor"
    """Reads the audit log, too."""
    OPERATOR = "operator"
    """Opens windows, and takes media, which carry secrets."""
    ADMIN = "admin"
    """Changes inventory, credentials, images and tokens; says that store or clock are to be believed."""

    def includes(self, other: PrincipalRole) -> bool:
        """Whether this role may do what `other` may."""
        order = list(PrincipalRole)
        return order.index(self) >= order.index(other)


class Authentication(StrEnum):
    """How it is known who asks."""

    PEER_CREDENTIALS = "peer-credentials"
    """The kernel says which user is at the other end of the Unix socket (SO_PEERCRED, unix(7))."""
    TOKEN = "token"
    """A bearer token (RFC 6750) that an admin has made."""
    KERBEROS = "kerberos"
    """A Kerberos ticket (RFC 4559) of a principal that the settings give a role."""


Labels = tuple[tuple[str, str], ...]
"""Labels and their values, sorted."""


@dataclass(frozen=True)
class Principal:
    """Somebody who was authenticated; `name` is what the audit log calls them, such as "uid=0", "token:ci" or
    "alice@EXAMPLE.COM".

    With a `selector` they see and touch only the hosts that have all of its labels, and nothing of the whole site.
    `expires` is when they are nobody again.
    """

    name: str
    role: PrincipalRole
    authentication: Authentication
    selector: Labels = ()
    expires: datetime | None = None

    def __str__(self) -> str:
        return self.name

    def may(self, role: PrincipalRole) -> bool:
        """Whether the principal may do what `role` may."""
        return self.role.includes(role)

    def sees(self, labels: Mapping[str, str]) -> bool:
        """Whether a host with these labels is one of the principal's."""
        return all(labels.get(label) == value for label, value in self.selector)


def spelled(selector: Labels) -> str:
    """A selector as people write it: "rack=7,row=a"."""
    return ",".join(f"{label}={value}" for label, value in selector)
