"""Keys that a boot or a copy of a medium stands for: derived from the master key, and stored nowhere."""

from __future__ import annotations

import hashlib
import hmac
import json

from provision.boot import Copy, Medium
from provision.secret import Secret
from provision.store.keys import MasterKey, Purpose
from provision.store.snapshot import Picture

_COPY_ID, _COPY_TAG = 16, 16  # bytes of a copy's key


class BootKeys:
    """The keys of the boots and copies of every host."""

    def __init__(self, picture: Picture, key: MasterKey) -> None:
        self._picture, self._key = picture, key

    def phone_home(self, boot_id: int, host: str) -> Secret:
        """32 bytes that only the host of this boot learns, through its seed; derived, so nothing is stored.

        Raises NotFound.
        """
        return Secret(self._derived(host, boot_id))

    def alive(self, host: str, label: str) -> Secret:
        """32 bytes with which the host that has come up from the boot or copy called `label` signs that it is up.

        Independent of the phone-home key, which crosses the LAN; another one as soon as the host is declared
        compromised. Raises NotFound.
        """
        known = self._picture.snapshot.compromised.get(host)
        return Secret(self._derived(host, "alive", label, *([known.number] if known is not None else [])))

    def of_copy(self, copy: Copy) -> Secret:
        """32 bytes that only who has this copy learns: its id, and a tag that only this store can make of it.

        The tag is HMAC-SHA256 cut to 128 bits (RFC 2104 section 5), so nothing is stored. Raises NotFound.
        """
        return Secret(bytes.fromhex(copy.id) + self._copy_tag(copy))

    def copy_of(self, host: str, key: bytes) -> Copy | None:
        """The copy of a medium of `host` that `key` was made for, or None. Raises NotFound."""
        for medium in Medium:
            copy = Copy(host, medium, key[:_COPY_ID].hex())
            if not medium.from_network and hmac.compare_digest(self._copy_tag(copy), key[_COPY_ID:]):
                return copy
        return None

    def _copy_tag(self, copy: Copy) -> bytes:
        return self._derived(copy.host, copy.medium.value, copy.id)[:_COPY_TAG]

    def _derived(self, host: str, *what: int | str) -> bytes:
        parts = json.dumps([self._picture.host_id(host), *what], separators=(",", ":")).encode()
        return hmac.digest(self._key.subkey(Purpose.PHONE_HOME).reveal(), parts, hashlib.sha256)
