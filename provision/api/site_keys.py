"""The site's keys: their public halves, and what is done with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.wire import Answer, Line, Request, Time, examples
from provision.site_key import KeyUse

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Public = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{1,8192}={0,2}$")]
Number = Annotated[int, Field(ge=1, le=2**53)]


class RollSiteKey(Request):
    """A new key that is wanted."""

    model_config = examples({"use": "signing"})

    use: KeyUse


class SiteKeyRow(Answer):
    """A key: what it is for, its public half, whether it is the one that is used, and whether this server has the
    private half.

    `public` is in base64: an Ed25519 key (32 bytes), an uncompressed point on P-256 (65 bytes), or a certificate (DER),
    by `use`. `fingerprint` is the SHA-256 of these bytes.
    """

    model_config = examples(
        {
            "number": 1,
            "use": "signing",
            "public": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "fingerprint": "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925",
            "used": True,
            "on_server": True,
            "created": "2026-03-01T12:00:00+00:00",
            "actor": "uid=0",
        }
    )

    number: Number
    use: KeyUse
    public: Public
    fingerprint: Fingerprint
    used: bool
    on_server: bool
    created: Time
    actor: Line
