"""What a host asks that takes an update: signed with the key by which it says that it is up, each request once."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from provision.errors import Invalid

_DESCRIBE = re.compile(r"describe ([0-9a-f]{32})")
_PART = re.compile(r"part ([0-9a-f]{64}) (kernel|initrd/[0-9]{1,2}|slot) ([0-9]{1,12})")


@dataclass(frozen=True)
class Describe:
    """The host asks what it should run; the answer is signed for its `nonce`."""

    nonce: str


@dataclass(frozen=True)
class Part:
    """The host asks for a file of the base image `version`, from the byte `start` on."""

    version: str
    file: str
    start: int


@dataclass(frozen=True)
class Asked:
    """What a host asks in the boot that its seed calls `boot`, started as `run`; `sequence` grows with every request of
    a run. `tag` is HMAC-SHA256 (RFC 2104) over `signed`."""

    host: str
    boot: str
    run: str
    sequence: int
    what: str
    tag: bytes

    @property
    def signed(self) -> bytes:
        """What the tag is made of."""
        return f"update|{self.host}|{self.boot}|{self.run}|{self.sequence}|{self.what}".encode()

    def is_genuine(self, key: bytes) -> bool:
        """Whether somebody who has `key` asks."""
        return hmac.compare_digest(hmac.digest(key, self.signed, hashlib.sha256), self.tag)

    @property
    def wish(self) -> Describe | Part:
        """What it is; raises Invalid."""
        if found := _DESCRIBE.fullmatch(self.what):
            return Describe(found[1])
        if found := _PART.fullmatch(self.what):
            return Part(found[1], found[2], int(found[3]))
        raise Invalid("update", "the request asks for nothing that there is", "see docs/media-format.md")
