"""Boot options of a firmware, written into its variables by somebody who has the machine: OVMF's store, as edk2's
MdeModulePkg/Include/Guid/VariableFormat.h has it, and load options (UEFI 2.10, 3.1.3)."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_AUTHENTICATED = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_START, _ADDED, _ATTRIBUTES, _ACTIVE = 0x55AA, 0x3F, 7, 1
_HEADER = struct.Struct("<HBxIQ16xIII16s")
FIRST_CD = bytes.fromhex("02010c00d041030a00000000 01010600021f 03120a000000ffff0000 7fff0400")
"""PciRoot(0)/Pci(31,2)/Sata(0): the laboratory's CD."""


def next_boot(store: Path, path: bytes, name: str, arguments: str) -> None:
    """Let the next start be from this device, and what starts be told these arguments."""
    option = struct.pack("<IH", _ACTIVE, len(path)) + _text(name) + path + _text(arguments)
    add(store, "Boot00A0", option)
    add(store, "BootNext", struct.pack("<H", 0xA0))


def add(store: Path, name: str, data: bytes) -> None:
    """Add a variable behind the last one; none of this name is there."""
    whole = bytearray(store.read_bytes())
    (start,) = struct.unpack_from("<H", whole, 48)
    assert whole[start : start + 16] == _AUTHENTICATED
    end = start + struct.unpack_from("<I", whole, start + 16)[0]
    at, text = start + 28, _text(name)
    while struct.unpack_from("<H", whole, at)[0] == _START:
        _, _, _, _, _, size, held, _ = _HEADER.unpack_from(whole, at)
        at += -(-(_HEADER.size + size + held) // 4) * 4
    added = _HEADER.pack(_START, _ADDED, _ATTRIBUTES, 0, 0, len(text), len(data), _GLOBAL.bytes_le) + text + data
    assert set(whole[at : at + len(added)]) == {0xFF} and at + len(added) < end
    whole[at : at + len(added)] = added
    store.write_bytes(whole)


def _text(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"
