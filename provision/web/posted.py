"""What booted hosts send of their TPMs: JSON, with bytes in hex, or in base64 where they may be many. A boot listener
takes bodies of 4 KiB, and nothing of them is repeated."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from provision.errors import Invalid
from provision.tpm import quoted_log
from provision.tpm.quoted_log import Quotation

_MOST_PART, _MOST_ATTEST = 2048, 1024


class Posted:
    """The members of a body, for the protocol that is called `subject`. Raises Invalid for all that cannot be."""

    def __init__(self, body: bytes, subject: str) -> None:
        self._subject = subject
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise Invalid(subject, "the body is not a JSON object", "see docs/media-format.md")
        self._said: dict[str, Any] = said

    def hex(self, name: str, most: int) -> bytes:
        """Bytes in hex."""
        return self._hex(self._said.get(name), name, most)

    def base64(self, name: str, most: int) -> bytes:
        """Bytes in base64."""
        text = self._said.get(name)
        try:
            if isinstance(text, str) and len(text) <= 4 * -(-most // 3):
                return b64decode(text, validate=True)
        except ValueError:
            pass
        raise self._wrong(name)

    def part(self) -> tuple[int, bytes]:
        """A part of the firmware's log, and from which byte on."""
        at, part = self._said.get("at"), self.base64("part", _MOST_PART)
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= quoted_log.MOST:
            raise self._wrong("at")
        return at, part

    def quotation(self, pcrs: Iterable[int]) -> Quotation:
        """A quote of just these PCRs."""
        values = self._said.get("pcrs")
        if not isinstance(values, dict) or values.keys() != {str(number) for number in pcrs}:
            raise self._wrong("pcrs")
        found = {int(number): self._hex(value, "pcrs", 32) for number, value in values.items()}
        if any(len(value) != 32 for value in found.values()):
            raise self._wrong("pcrs")
        return Quotation(self.hex("message", _MOST_ATTEST), self.hex("signature", _MOST_ATTEST), found)

    def _hex(self, text: object, name: str, most: int) -> bytes:
        try:
            if isinstance(text, str) and len(text) <= 2 * most:
                return binascii.unhexlify(text)
        except ValueError:
            pass
        raise self._wrong(name)

    def _wrong(self, name: str) -> Invalid:
        """What to raise for a member; `name` is one of ours."""
        return Invalid(
            self._subject, f"'{name}' is missing, too long or not what it has to be", "see docs/media-format.md"
        )
