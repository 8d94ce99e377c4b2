"""Tokens: what an operator who is not on the server shows instead of a password (bearer tokens, RFC 6750).

A token is "provision_" and 32 random bytes in base64url (RFC 4648 section 5): no more needs to be known to use it, and
a scanner that looks for leaked secrets knows it by its first word.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from provision.clock import TOLERANCE
from provision.principal import Authentication, Labels, Principal, PrincipalRole, spelled
from provision.secret import Secret

PREFIX = "provision_"
_BYTES = 32
_TOKEN = re.compile(rb"provision_[A-Za-z0-9_-]{43}")

DEFAULT_DAYS, MOST_DAYS = 90, 365


@dataclass(frozen=True)
class Token:
    """What is known of a token, which is not the token itself. `created` and `expires` are aware datetimes."""

    name: str
    role: PrincipalRole
    selector: Labels
    created: datetime
    expires: datetime
    actor: str

    def is_good(self, now: datetime) -> bool:
        """Whether it may be used at `now`. One that was made in the future is of a clock that was wrong."""
        return self.created - TOLERANCE <= now < self.expires

    @property
    def principal(self) -> Principal:
        """Who shows it."""
        return Principal(f"token:{self.name}", self.role, Authentication.TOKEN, self.selector, self.expires)


def new() -> Secret:
    """A token that nobody has seen."""
    return Secret(PREFIX.encode() + secrets.token_urlsafe(_BYTES).encode())


def parse(text: bytes) -> Secret | None:
    """What has the form of a token."""
    return Secret(text) if _TOKEN.fullmatch(text) else None


def spelled_or_all(selector: Labels) -> str:
    """Which hosts a token is for, in words."""
    return spelled(selector) or "all hosts"


def expiry(days: int, now: datetime) -> datetime:
    """When a token ends that is made now for so many days."""
    return now + timedelta(days=days)
