"""The last sector of a slot with a signed image, which says what is in the slot, as it leaves the factory.

docs/media-format.md, "The disk of a signed image", has the form, and the host has it in
images/host/root/usr/lib/provision/slot_record.py.
"""

from __future__ import annotations

from provision.media.gpt import SECTOR


def encode(version: str) -> bytes:
    """The sector of a slot that has proved itself, with the base image of this id in it."""
    return f"provision-slot 1\nversion {version}\ntrial no\n".encode().ljust(SECTOR, b"\0")
