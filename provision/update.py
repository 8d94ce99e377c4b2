"""Descriptions of updates: the image that a host is to have in a slot of its disk, signed by the site (Ed25519, RFC
8032) for one request.

docs/media-format.md, "Updates", has the form, and images/host/root/usr/lib/provision/update_description.py is its
reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision import signed_file
from provision.host import Reboot

FORMAT = "provision-update 1"


@dataclass(frozen=True)
class UpdateFile:
    """A file of an update: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class KernelFiles:
    """What GRUB boots from a slot: kernel, initrds in their order, and `arguments` of the kernel."""

    arguments: str
    kernel: UpdateFile
    initrds: tuple[UpdateFile, ...]

    def lines(self) -> Iterator[str]:
        """Them in the description."""
        yield f"arguments {self.arguments}"
        yield f"kernel {self.kernel.size} {self.kernel.sha256}"
        for initrd in self.initrds:
            yield f"initrd {initrd.size} {initrd.sha256}"


@dataclass(frozen=True)
class SlotFile:
    """What firmware starts from a slot: the file system there, with a signed image."""

    file: UpdateFile

    def lines(self) -> Iterator[str]:
        """It in the description."""
        yield f"slot {self.file.size} {self.file.sha256}"


@dataclass(frozen=True)
class Update:
    """What a host of a site is to run: the base image `version` (its id), of which its slot has this `content`.
    `sequence` grows with the site's changes, `attempt` when an operator lets a version that
    failed be tried again; `nonce` is of the request. `reboot` says when the host may."""

    host: str
    site: str
    version: str
    sequence: int
    attempt: int
    nonce: str
    reboot: Reboot
    content: KernelFiles | SlotFile


def encode(update: Update, key: Ed25519PrivateKey) -> bytes:
    """The signed description."""
    signed = "".join(f"{line}\n" for line in _lines(update)).encode()
    return signed_file.encode(FORMAT, signed, key)


def _lines(update: Update) -> Iterator[str]:
    for name in ("host", "site", "version", "sequence", "attempt", "nonce", "reboot"):
        yield f"{name} {getattr(update, name)}"
    yield from update.content.lines()
