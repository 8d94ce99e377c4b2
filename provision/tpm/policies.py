"""Policy digests as a TPM computes them (TCG TPM 2.0 Library, Part 1, section 19.7, and Part 3 for each command).

A policy is a digest that commands extend, one after the other, from `START`; all are SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from provision.tpm.algorithms import Algorithm, Hash
from provision.tpm.wire import sized, u8, u16, u32

START = bytes(32)
"""The digest of a session in which no command has been run."""

_PCR, _OR, _AUTHORIZE, _NV, _COUNTER_TIMER = 0x17F, 0x171, 0x16A, 0x149, 0x16D
_COUNTS_AT, _EQUAL = 16, 0  # where TPMS_TIME_INFO has the counts, and TPM_EO_EQ
_MOST_BRANCHES = 8
_PCRS = 24
_NOT_LESS = 9  # TPM_EO_UNSIGNED_LE: what the operand is to what the index holds; see `at_least`


def pcr_values(values: Mapping[int, bytes]) -> bytes:
    """The digest over PCR values (number: 32 bytes), in the order of their numbers, as quotes and policies have it."""
    return Hash.SHA256.of(*(values[number] for number in sorted(values)))


def selection(numbers: Iterable[int]) -> bytes:
    """A TPML_PCR_SELECTION of the SHA-256 bank (Part 2, section 10.9.7)."""
    bits = sum(1 << number for number in set(numbers))
    if not 0 < bits < 1 << _PCRS:
        raise ValueError("a selection has PCRs 0 to 23, at least one")
    return u32(1) + u16(Hash.SHA256) + u8(_PCRS // 8) + bits.to_bytes(_PCRS // 8, "little")


def pcr(before: bytes, values: Mapping[int, bytes]) -> bytes:
    """TPM2_PolicyPCR: the PCRs have these values."""
    return Hash.SHA256.of(before, u32(_PCR), selection(values), pcr_values(values))


def any_of(branches: Sequence[bytes]) -> bytes:
    """TPM2_PolicyOR: one of 2 to 8 policies holds. It begins anew: what stood before is in the branches."""
    if not 2 <= len(branches) <= _MOST_BRANCHES:
        raise ValueError("an OR has 2 to 8 branches")
    return Hash.SHA256.of(START, u32(_OR), *branches)


def authorized(key_name: bytes, reference: bytes) -> bytes:
    """TPM2_PolicyAuthorize: what the key of this name has approved under the reference holds. It begins anew."""
    return Hash.SHA256.of(Hash.SHA256.of(START, u32(_AUTHORIZE), key_name), reference)


def at_least(before: bytes, index_name: bytes, version: int) -> bytes:
    """TPM2_PolicyNV: the counter in the index, 8 bytes, is not above `version`.

    Raising the index revokes all that was approved for lower versions.
    """
    arguments = Hash.SHA256.of(version.to_bytes(8, "big"), u16(0), u16(_NOT_LESS))
    return Hash.SHA256.of(before, u32(_NV), arguments, index_name)


def in_start(before: bytes, start: tuple[int, int]) -> bytes:
    """TPM2_PolicyCounterTimer: the TPM has been reset, and restarted since, just so many times."""
    arguments = Hash.SHA256.of(u32(start[0]), u32(start[1]), u16(_COUNTS_AT), u16(_EQUAL))
    return Hash.SHA256.of(before, u32(_COUNTER_TIMER), arguments)


@dataclass(frozen=True)
class Index:
    """A place in a TPM's NV memory: its handle, attributes (TPMA_NV), policy and size."""

    handle: int
    attributes: int
    size: int
    policy: bytes = b""

    @property
    def name(self) -> bytes:
        """Its name once it has been written (Part 1, section 16; TPMS_NV_PUBLIC)."""
        written = self.attributes | 1 << 29
        area = u32(self.handle) + u16(Hash.SHA256) + u32(written) + sized(self.policy) + u16(self.size)
        return u16(Hash.SHA256) + Hash.SHA256.of(area)


def approval_digest(approved: bytes, reference: bytes) -> bytes:
    """What the site signs to approve a policy (Part 3, section 23.16, aHash)."""
    return Hash.SHA256.of(approved, reference)


def tpm_signature(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """An ECDSA signature in DER as a TPMT_SIGNATURE with SHA-256."""
    size = curve.key_size // 8
    first, second = (number.to_bytes(size, "big") for number in decode_dss_signature(signature))
    return u16(Algorithm.ECDSA) + u16(Hash.SHA256) + sized(first) + sized(second)
