"""Links: short, expiring URLs of one host's medium."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from provision import link
from provision.api.wire import Answer, Count, Line, Request, Time, examples
from provision.boot import DiskFormat, Medium
from provision.model import Name

LinkId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
"""What a link is called; its secret is another."""
Url = Annotated[
    str,
    StringConstraints(pattern=rf"^https?://[0-9a-z.:\[\]-]{{1,260}}/b/{link.SECRET}\.({'|'.join(link.SUFFIXES)})$"),
]


class LinkMedium(StrEnum):
    """What there are links to."""

    ISO = "iso"
    DISK = "disk"

    @property
    def medium(self) -> Medium:
        """The same among all media."""
        return Medium(self.value)


class MakeLink(Request):
    """A link: for how many minutes and uses, and, with `address`, for that peer alone. `format` is a disk's."""

    model_config = examples({"medium": "iso", "format": "raw", "minutes": 60, "uses": 1, "address": "10.0.0.201"})

    medium: LinkMedium
    format: DiskFormat = DiskFormat.RAW
    minutes: int = 60
    uses: int = 1
    address: IPv4Address | IPv6Address | None = None


class MadeLink(Answer):
    """The link that was made, with its URLs, which are shown this once: over TLS first, then for BMCs in plain HTTP."""

    model_config = examples(
        {
            "id": "3f9a1c2b7d4e",
            "host": "node1",
            "medium": "iso",
            "expires": "2026-03-01T13:00:00+00:00",
            "uses": 1,
            "address": None,
            "urls": ["https://10.0.0.1:8443/b/0123456789abcdefghjkmnpqrs.iso"],
            "caution": None,
        }
    )

    id: LinkId
    host: Name
    medium: LinkMedium
    expires: Time
    uses: Count
    address: Line | None
    urls: tuple[Url, ...] = Field(repr=False)
    caution: Line | None


_LINK: dict[str, JsonValue] = {
    "id": "3f9a1c2b7d4e",
    "host": "node1",
    "medium": "iso",
    "state": "good",
    "made": "2026-03-01T12:00:00+00:00",
    "by": "uid=0",
    "expires": "2026-03-01T13:00:00+00:00",
    "uses": 1,
    "used": 0,
    "address": "10.0.0.201",
    "peers": [],
}


class LinkRow(Answer):
    """A link without its secret: `state` is "good", or why nobody gets anything by it; `peers` have used it."""

    model_config = examples(_LINK)

    id: LinkId
    host: Name
    medium: LinkMedium
    state: Line
    made: Time
    by: Line
    expires: Time
    uses: Count
    used: Count
    address: Line | None
    peers: tuple[Line, ...]
