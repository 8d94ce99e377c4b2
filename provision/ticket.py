"""Kerberos tickets: which principals are somebody here, and what they may.

A principal is known by its whole name, realm included: a realm that this server's trusts has users of its own, and any
of them may be called as one of ours is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from provision.model import LabelKey, LabelValue, Model
from provision.principal import Authentication, Labels, Principal, PrincipalRole

ANY = "*"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_REALM = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}"
# Nothing of a name that Kerberos would have to escape, and no machine of Active Directory (NODE$), which is in the
# realm of its users.
_PRINCIPAL = re.compile(rf"{_PART}(?:/{_PART}){{0,3}}@{_REALM}")
_PATTERN = re.compile(rf"(?:\*|{_PART})(?:/(?:\*|{_PART})){{0,3}}@{_REALM}")
MOST = 255
"""Characters of a principal's name: the audit log has room for all of it."""
_WELL_KNOWN = "WELLKNOWN/"
"""How names begin that Kerberos itself has given, that of everybody (ANONYMOUS) among them (RFC 8062)."""


@dataclass(frozen=True)
class Ticket:
    """Who has shown a ticket. `expires`, an aware datetime, is when that is over."""

    name: str
    role: PrincipalRole
    selector: Labels
    expires: datetime

    def is_good(self, now: datetime) -> bool:
        """Whether it may be used at `now`."""
        return now < self.expires

    @property
    def principal(self) -> Principal:
        """Who shows it."""
        return Principal(self.name, self.role, Authentication.KERBEROS, self.selector, self.expires)


def _pattern(text: str) -> str:
    """A pattern of principals: a name with its realm, in which "*" stands for one whole part. Raises ValueError."""
    if len(text) > MOST or not _PATTERN.fullmatch(text):
        raise ValueError(f"is not a principal with its realm; write NAME@REALM, and {ANY} for any one part of the name")
    return text


class Grant(Model):
    """Principals by name or pattern, the role that they have, and labels of the hosts that they see (none: all)."""

    principals: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(min_length=1)
    role: PrincipalRole
    selector: dict[LabelKey, LabelValue] = Field(default={}, max_length=8)

    def to(self, name: str, expires: datetime) -> Ticket:
        """The ticket of one of them that is good until then."""
        return Ticket(name, self.role, tuple(sorted(self.selector.items())), expires)


def is_principal(name: str) -> bool:
    """Whether this can be the name of a principal here. No token's name and no user id has its form."""
    return len(name) <= MOST and bool(_PRINCIPAL.fullmatch(name)) and not name.startswith(_WELL_KNOWN)


def granted(grants: Iterable[Grant], name: str) -> Grant | None:
    """The first of the grants that means the principal `name`; None when none does."""
    if not is_principal(name):
        return None
    return next((one for one in grants if any(_means(pattern, name) for pattern in one.principals)), None)


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern means a principal: the same realm, and part by part the same, letter for letter."""
    wanted, _, realm = pattern.rpartition("@")
    found, _, of = name.rpartition("@")
    pairs = list(zip(wanted.split("/"), found.split("/"), strict=False))
    as_long = wanted.count("/") == found.count("/")
    return realm == of and as_long and all(part in (ANY, other) for part, other in pairs)
