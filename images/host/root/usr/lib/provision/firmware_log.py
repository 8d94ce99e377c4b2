"""The firmware's log of what it measured (crypto-agile; TCG PC Client Platform Firmware Profile, section 10)."""

import struct
from pathlib import Path

LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
PCRS = "/sys/class/tpm/tpm0/pcr-sha256"
_SHA256 = 0x0B
# That nothing is measured, a separator, the firmware's version, its variables, its actions, and by which certificate it
# took a program.
_TOLD = {0x3: 512, 0x4: 4, 0x8: 512, 0x80000001: 512, 0x80000007: 200, 0x800000E0: 4096}


def read(path=LOG):
    """The log, or nothing."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def entries(log):
    """PCR, kind, SHA-256 digest (or None) and text of every event, as far as the log is whole."""
    try:
        yield from _entries(log)
    except (struct.error, KeyError):
        return


def _entries(log):
    """The first one is in an older format, and names the hashes with their sizes."""
    hashes = struct.unpack_from("<I", log, 56)[0]
    sizes = dict(struct.unpack_from("<HH", log, 60 + 4 * number) for number in range(hashes))
    at = 32 + struct.unpack_from("<I", log, 28)[0]
    while at < len(log):
        (pcr, kind, count), at, digests = struct.unpack_from("<III", log, at), at + 12, {}
        for _ in range(count):
            algorithm = struct.unpack_from("<H", log, at)[0]
            digests[algorithm] = log[at + 2 : at + 2 + sizes[algorithm]]
            at += 2 + sizes[algorithm]
        size = struct.unpack_from("<I", log, at)[0]
        yield pcr, kind, digests.get(_SHA256), log[at + 4 : at + 4 + size]
        at += 4 + size


def short(log):
    """The log with one digest of each event, and what events say only where the server looks at it."""
    if not log:
        return b""
    parts = [log[:28] + struct.pack("<I", 33) + log[32:56] + struct.pack("<IHHB", 1, _SHA256, 32, 0)]
    for pcr, kind, digest, text in entries(log):
        told = text if len(text) <= _TOLD.get(kind, 0) else b""
        head = struct.pack("<IIIH", pcr, kind, 1, _SHA256) + (digest or b"")
        parts.append(head + struct.pack("<I", len(told)) + told)
    return b"".join(parts)


def pcrs(numbers, directory=PCRS):
    """The values of these PCRs in the SHA-256 bank, in hex, by their numbers as text."""
    return {str(number): Path(directory, str(number)).read_text().strip().lower() for number in numbers}
