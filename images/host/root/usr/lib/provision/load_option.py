"""Boot options (UEFI specification 2.10, sections 3.1.3 and 10.3): a program on a partition of a disk."""

import struct

_ACTIVE = 1
_MEDIA, _HARD_DRIVE, _FILE, _END = 4, 1, 4, b"\x7f\xff\x04\x00"
_GPT, _BY_GUID = 2, 2


def encode(description, partition, path):
    """The option that starts the program `path` on the partition of a disk with a GPT."""
    place = struct.pack("<IQQ", partition.number, partition.first, partition.last - partition.first + 1)
    disk = _node(_HARD_DRIVE, place + partition.guid.bytes_le + bytes((_GPT, _BY_GUID)))
    nodes = disk + _node(_FILE, _text(path.replace("/", "\\"))) + _END
    return struct.pack("<IH", _ACTIVE, len(nodes)) + _text(description) + nodes


def _node(kind, content):
    return struct.pack("<BBH", _MEDIA, kind, 4 + len(content)) + content


def _text(text):
    return f"{text}\0".encode("utf-16-le")
