"""Tokens, and who one is: what a token may do is told, and the token itself only once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.wire import Answer, Line, Request, Time, examples
from provision.model import LabelKey, LabelValue, Name
from provision.principal import Authentication, PrincipalRole
from provision.token import DEFAULT_DAYS, MOST_DAYS

Selector = Annotated[dict[LabelKey, LabelValue], Field(max_length=8)]
"""Labels that a host must have, with their values; none means every host."""
TokenText = Annotated[str, StringConstraints(pattern=r"^provision_[A-Za-z0-9_-]{43}$")]


_ROW = {
    "name": "rack7",
    "role": "operator",
    "selector": {"rack": "7"},
    "created": "2026-03-01T12:00:00+00:00",
    "expires": "2026-03-31T12:00:00+00:00",
    "good": True,
    "used": None,
    "actor": "uid=0",
}


class NewToken(Request):
    """A token that is wanted."""

    model_config = examples({"name": "rack7", "role": "operator", "days": 30, "selector": {"rack": "7"}})

    name: Name
    role: PrincipalRole
    days: int = Field(default=DEFAULT_DAYS, ge=1, le=MOST_DAYS)
    selector: Selector = {}


class TokenRow(Answer):
    """A token: what it may do, for which hosts, since when and until when, when it was used last, and who made it.

    It is `good` until it expires.
    """

    model_config = examples(_ROW)

    name: Name
    role: PrincipalRole
    selector: Selector
    created: Time
    expires: Time
    good: bool
    used: Time | None
    actor: Line


class CreatedToken(TokenRow):
    """A new token, with what it takes to use it."""

    model_config = examples({**_ROW, "token": "provision_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})

    token: TokenText = Field(repr=False)


class WhoAmI(Answer):
    """Who asks: what the audit log calls them, their role, the hosts that they see, and until when."""

    model_config = examples(
        {
            "name": "token:rack7",
            "role": "operator",
            "authentication": "token",
            "selector": {"rack": "7"},
            "expires": "2026-03-31T12:00:00+00:00",
        }
    )

    name: Line
    role: PrincipalRole
    authentication: Authentication
    selector: Selector
    expires: Time | None
