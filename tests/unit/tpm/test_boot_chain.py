"""PCR values from files; boots of the real firmware prove them in tests/boot."""

from __future__ import annotations

import hashlib

from provision.tpm import boot_chain


def extended(*measured: bytes) -> bytes:
    value = bytes(32)
    for one in measured:
        value = hashlib.sha256(value + one).digest()
    return value


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


CALLING, RETURNING = (
    sha(b"Calling EFI Application from Boot Option"),
    sha(b"Returning from EFI Application from Boot Option"),
)


def test_programs_follow_the_boot_option_and_those_that_failed() -> None:
    program = sha(b"program")
    assert boot_chain.applications(program) == extended(CALLING, sha(bytes(4)), program)
    assert boot_chain.applications(program, failures=2) == extended(
        CALLING, sha(bytes(4)), RETURNING, CALLING, RETURNING, CALLING, program
    )


def test_sections_are_measured_by_name_and_content() -> None:
    value = boot_chain.unified_kernel({".linux": sha(b"k"), ".cmdline": sha(b"c")})
    assert value == extended(sha(b".linux\0"), sha(b"k"), sha(b".cmdline\0"), sha(b"c"))
    assert boot_chain.unified_kernel({".cmdline": sha(b"c"), ".linux": sha(b"k")}) != value
