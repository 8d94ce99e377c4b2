"""The superblock of ext4 (linux/fs/ext4/ext4.h), as far as it matters after a power cut.

Of its two sectors a power cut may leave one from before and one from after a write; the kernel then mounts nothing, for
the sum is wrong. All that a mount, a growth or a change of files writes is in the first sector, and the second has
nothing new but the sum over both: so the first one with its own sum is the superblock as it was written last, or as it
was before. The kernel's `sb=` is not a way out: it throws away the journal, of which a copy does not know.
"""

SIZE, AT = 1024, 1024
COPY_AT = 32768 * 4096
"""Where the first copy is, in bytes, on a file system with blocks of 4 KiB and more than 128 MiB."""
_MAGIC, _SUM = b"\x53\xef", slice(1020, 1024)
# Geometry, revision, sizes, UUID and label, journal, hash: what only its making writes.
_LASTING = tuple(map(slice, (20, 56, 76, 104, 208, 236), (44, 58, 90, 136, 232, 255)))


def is_whole(block):
    """Whether its sum is right."""
    return block[56:58] == _MAGIC and _crc32c(block[: _SUM.start]) == int.from_bytes(block[_SUM], "little")


def was_mounted(block):
    """Whether somebody has mounted it: there may be data behind it."""
    return block[56:58] == _MAGIC and any(block[44:48])


def mended(block, copy):
    """One that was mounted, with its sum; None when it is not as its copy where neither ever changes."""
    if not was_mounted(block) or not is_whole(copy) or any(block[part] != copy[part] for part in _LASTING):
        return None
    return block[: _SUM.start] + _crc32c(block[: _SUM.start]).to_bytes(4, "little")


def _crc32c(data):
    """CRC-32C that begins with ones, and is not inverted."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value
