"""A TPM that says what a test wants: quotes (TPMS_ATTEST) signed in Python by an attestation key of its own."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from provision.tpm import policies, public
from provision.tpm.algorithms import Algorithm, Curve, Hash
from provision.tpm.public import Public
from provision.tpm.quoted_log import Quotation
from provision.tpm.wire import sized, u16, u32

_ATTRIBUTES = 0x00050072


def attestation_key(number: int = 7) -> tuple[ec.EllipticCurvePrivateKey, Public]:
    """An attestation key on P-256, always the same of a number, and its public area."""
    key = ec.derive_private_key(number, ec.SECP256R1())
    numbers, null = key.public_key().public_numbers(), u16(Algorithm.NULL)
    area = u16(Algorithm.ECC) + u16(Hash.SHA256) + u32(_ATTRIBUTES) + sized(b"") + null
    area += u16(Algorithm.ECDSA) + u16(Hash.SHA256) + u16(Curve.P256) + null
    area += sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return key, public.parse(area, "AK")


def quotation(
    values: Mapping[int, bytes], nonce: bytes, start: tuple[int, int] = (3, 0), number: int = 7, magic: int = 0xFF544347
) -> Quotation:
    """A quote of these PCR values over the nonce, by the key of that number."""
    key, area = attestation_key(number)
    message = u32(magic) + u16(0x8018) + sized(area.name) + sized(nonce)
    message += bytes(8) + u32(start[0]) + u32(start[1]) + b"\1" + bytes(8)
    message += policies.selection(values) + sized(policies.pcr_values(values))
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return Quotation(message, policies.tpm_signature(signature, key.curve), values)
