"""The key of a host without a disk, kept in its TPM at a handle of its own: docs/media-format.md, "A kept key".

It is the very object that an envelope brings, with its policy: what the TPM keeps opens no more than what it imports.
Run as a program, it lets the TPM keep none, and fails when it may still do so.
"""

import sys
from contextlib import suppress

import tpm

HANDLE = 0x81185057
_READ_PUBLIC, _EVICT = 0x173, 0x120
_ABSENT, _FULL = 0x18B, (0x14B, 0x902)
_NO_PASSWORD = tpm.u32(tpm.PASSWORD) + tpm.sized(b"") + b"\1" + tpm.sized(b"")
_KIND = tpm.u16(0x0008, 0x000B) + tpm.u32(0x00000480)
"""Sealed data that opens by its policy alone, as envelopes have it: type, hash of the name, attributes."""


def find(device):
    """What stands there, or None."""
    try:
        _, answer, _ = device.run(_READ_PUBLIC, tpm.u32(HANDLE))
    except tpm.TpmError as error:
        if error.code == _ABSENT:
            return None
        raise
    size = int.from_bytes(answer[:2], "big")
    end = 4 + size + int.from_bytes(answer[2 + size : 4 + size], "big")
    return tpm.Key(HANDLE, answer[2 : 2 + size], answer[4 + size : end])


def keep(device, key):
    """Let the loaded key stand there, in place of one of before; returns why it does not, in words, or ""."""
    try:
        known = find(device)
        if known is not None and known.name == key.name:
            return ""
        if known is not None and not known.public.startswith(_KIND):
            return f"something that is not a provisioning server's stands at {HANDLE:#x}"
        if known is not None:
            _evict(device, HANDLE)
        _evict(device, key.handle)
    except tpm.TpmError as error:
        return "it has no room left" if error.code in _FULL else f"its owner does not let us ({error})"
    return ""


def remove(device):
    """Let nothing of an envelope stand there. Raises TpmError."""
    known = find(device)
    if known is not None and known.public.startswith(_KIND):
        _evict(device, HANDLE)


def forget(device):
    """The same for a host that keeps its envelope elsewhere."""
    # What stays opens nothing without the envelope's ciphertext, and outside of an approved boot chain.
    with suppress(tpm.TpmError):
        remove(device)


def _evict(device, handle):
    """What is loaded is kept at HANDLE; what is kept there is not, any more."""
    device.run(_EVICT, tpm.u32(tpm.OWNER, handle), tpm.u32(HANDLE), _NO_PASSWORD)


def main(make_device=tpm.device):
    try:
        remove(make_device())
    except FileNotFoundError:
        pass  # where the kernel knows no TPM, it keeps nothing
    except (OSError, tpm.TpmError) as error:
        sys.exit(f"the key in the TPM is not removed: {error}")


if __name__ == "__main__":
    main()
