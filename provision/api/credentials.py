"""Credentials: sealing them, and what may be told of them. Nothing here gives content back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from provision.api.wire import Answer, Bytes, Count, Request, Time, examples
from provision.model import ContentId, FileMode, Name, SeedPath
from provision.site import CredentialKind


class NewCredential(Request):
    """One secret of a load."""

    model_config = examples({"host": "node1", "name": "token", "data": "dGhlIHRva2Vu"})

    host: Name
    name: Name
    data: Bytes = Field(repr=False)


class Sealed(Answer):
    """A credential's version. `exposed`: others may have this very content, since the host was declared compromised."""

    model_config = examples({"host": "node1", "name": "token", "version": 2, "exposed": False})

    host: Name
    name: Name
    version: Count
    exposed: bool = False


class CredentialRow(Answer):
    """A credential: its place on the host, its version and its fingerprint, which a token has not; `not_after` is a
    certificate's. `exposed`: others may have its content, since its host was declared compromised. `held` is the
    version that the host says it has on its disk, None when it has none there; `earlier` a version that is kept beside
    the newest one, until the host has that. `made`: when it was set."""

    model_config = examples(
        {
            "host": "node1",
            "name": "token",
            "kind": "token",
            "path": "/etc/token",
            "mode": "0600",
            "version": 2,
            "sha256": "",
            "not_after": None,
            "exposed": False,
            "held": 1,
            "earlier": 1,
            "made": "2026-03-01T12:00:00+00:00",
        }
    )

    host: Name
    name: Name
    kind: CredentialKind
    path: SeedPath
    mode: FileMode
    version: Count
    sha256: ContentId | Literal[""]
    not_after: Time | None
    exposed: bool = False
    held: Count | None = None
    earlier: Count | None = None
    made: Time | None = None
