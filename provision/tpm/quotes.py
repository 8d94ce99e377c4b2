"""Quotes: what a TPM says of its PCRs, signed by a key that signs nothing else (TPMS_ATTEST, Part 2, 10.12.8)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from provision.errors import Denied, Invalid
from provision.tpm import policies
from provision.tpm.algorithms import Hash
from provision.tpm.public import Attribute, Public
from provision.tpm.wire import Reader

_MAGIC, _QUOTE = 0xFF544347, 0x8018
_ATTESTS = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
_ATTESTS |= Attribute.RESTRICTED | Attribute.SIGN
_RULE, _REMEDY = "tpm-quote", "power-cycle the host, and see 'provision tpm explain'"


@dataclass(frozen=True)
class Quote:
    """What was quoted: the nonce, the number of resets and restarts of the TPM, and the digest over the PCR values."""

    nonce: bytes
    resets: int
    restarts: int
    safe: bool
    selection: bytes
    digest: bytes


def require_attestation_key(key: Public, subject: str) -> None:
    """Raise Invalid for a key that could sign what its TPM has not said: one that is not restricted, or not its own."""
    if key.attributes & _ATTESTS != _ATTESTS or key.attributes & Attribute.DECRYPT or key.scheme is None:
        fact = "is not an attestation key: a restricted signing key that is fixed to its TPM"
        raise Invalid(subject, fact, "enrol the host with the image's own agent")


def verify(
    message: bytes, signature: bytes, key: Public, nonce: bytes, values: Mapping[int, bytes], subject: str
) -> Quote:
    """The quote, when the attestation key has signed it for this nonce and these PCR values (SHA-256 bank, by number).

    Raises Invalid for what is no quote, and Denied for one that says something else.
    """
    _require_signed(message, signature, key, subject)
    quote = parse(message, subject)
    if not hmac.compare_digest(quote.nonce, nonce):
        raise _denied(subject, "is not for the nonce that was sent")
    if quote.selection != policies.selection(values):
        raise _denied(subject, "is of other PCRs than were asked for")
    if not hmac.compare_digest(quote.digest, policies.pcr_values(values)):
        raise _denied(subject, "is of other PCR values than those that came with it")
    return quote


def parse(message: bytes, subject: str) -> Quote:
    """A TPMS_ATTEST of the kind quote; raises Invalid."""
    reader = Reader(message, subject)
    if reader.u32() != _MAGIC or reader.u16() != _QUOTE:
        raise reader.wrong("is not a quote")
    reader.sized()  # the signer's qualified name
    nonce = reader.sized()
    reader.u64()  # the clock
    resets, restarts, safe = reader.u32(), reader.u32(), reader.u8() == 1
    reader.u64()  # the firmware's version
    count = reader.u32()
    if count != 1:
        raise reader.wrong("is of several banks of PCRs")
    bank, size = reader.take(2), reader.take(1)
    bits = reader.take(size[0])
    digest = reader.sized()
    reader.end()
    return Quote(nonce, resets, restarts, safe, count.to_bytes(4, "big") + bank + size + bits, digest)


def _require_signed(message: bytes, signature: bytes, key: Public, subject: str) -> None:
    reader = Reader(signature, subject)
    if key.scheme != (reader.u16(), reader.u16()):
        raise reader.wrong("is signed by another scheme than the attestation key's")
    hash_ = Hash(key.scheme[1])
    try:
        if isinstance(key.key, rsa.RSAPublicKey):
            given = reader.sized()
            reader.end()
            key.key.verify(given, message, padding.PKCS1v15(), hash_.primitive)
        else:
            first, second = (int.from_bytes(reader.sized(), "big") for _ in range(2))
            reader.end()
            key.key.verify(encode_dss_signature(first, second), message, ec.ECDSA(hash_.primitive))
    except InvalidSignature:
        raise _denied(subject, "is not signed by the host's attestation key") from None


def _denied(subject: str, fact: str) -> Denied:
    return Denied(subject, fact, _REMEDY, _RULE)
