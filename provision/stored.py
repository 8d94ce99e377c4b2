"""What a host says of the identity on its own disk, and what the server remembers of that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from provision.boot import Medium
from provision.errors import Invalid

_REASON = r"refused ([A-Za-z0-9][A-Za-z0-9 ,;:.()_/+=\'-]{0,250})"
_REFUSED = re.compile(_REASON)
_STORED = re.compile(
    rf"stored ([0-9a-f]{{64}})((?: [a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?=[0-9]{{1,9}})*)(?:; {_REASON})?"
)
WIPED = "wiped"


@dataclass(frozen=True)
class Holds:
    """The host has the seed of this `revision` on its disk, with these versions of its credentials by name.

    `refused` is why it has not taken the seed that it was booted with, "" when there was none.
    """

    revision: str
    credentials: Mapping[str, int]
    refused: str = ""


@dataclass(frozen=True)
class Refused:
    """The host could not store its seed, for this `reason`."""

    reason: str


@dataclass(frozen=True)
class Wiped:
    """The host had an identity on its disk, and has wiped it."""


Report = Holds | Refused | Wiped


def parse(text: str) -> Report | None:
    """What `text` says, the form that docs/media-format.md ("Alive") gives; None for "". Raises Invalid."""
    if not text:
        return None
    if text == WIPED:
        return Wiped()
    if found := _STORED.fullmatch(text):
        pairs = (pair.rpartition("=") for pair in found[2].split())
        return Holds(found[1], {name: int(version) for name, _, version in pairs}, found[3] or "")
    if found := _REFUSED.fullmatch(text):
        return Refused(found[1])
    raise Invalid("alive", "the body is not a valid message", "see docs/media-format.md")


class Ordered(StrEnum):
    """What a host is to do with its stored identity at its next word."""

    NOTHING = ""
    WIPE = "wipe"


@dataclass(frozen=True)
class StoredIdentity:
    """The identity that a host last said it holds on its disk: `holds`, out of the boot that its seed calls `boot`, on
    the network of that ("" for a medium); `reported` when it first said so. `ordered` is what it is to do with it."""

    boot: str
    network: str
    holds: Holds
    reported: datetime
    ordered: Ordered = Ordered.NOTHING

    @property
    def is_sealed(self) -> bool:
        """Whether it is an envelope: only ciphertext is on that disk, which the host's own TPM opens."""
        return comes_sealed(self.boot)


def comes_sealed(boot: str) -> bool:
    """Whether what a host has come up from, by that label, is an envelope."""
    return boot.startswith(f"{Medium.ENVELOPE} ")


def envelope_label(number: int) -> str:
    """What a host that has opened the envelope of that number says that it has come up from."""
    return f"{Medium.ENVELOPE} {number}"
