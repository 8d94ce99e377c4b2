"""TPMs as the store has them."""

from __future__ import annotations

from typing import Any

from provision.enrolled_tpm import EnrolledTpm, KeyKind
from tests.helpers.store_samples import NOW


def tpm(host: str = "n1", number: int = 1, known: str = "imported", **fields: Any) -> EnrolledTpm:
    """A TPM of the host, with the fingerprint of that number; pending when `known` is ""."""
    values: dict[str, Any] = {
        "key": b"key %d" % number,
        "kind": KeyKind.RSA,
        "fingerprint": f"{number:064x}",
        "attestation": b"\0\x0b" + bytes(32),
        "pcr7": bytes(range(32)),
        "firmware": "UEFI, Secure Boot on, version 9.1",
        "at": NOW,
        "actor": "uid=0",
    }
    return EnrolledTpm(host=host, known=known, **(values | fields))
