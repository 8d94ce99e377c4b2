"""Seeds that the site has signed: one that it has not gives way to the host's own identity, of which the boot arguments
say which disk has it. Nothing here waits for more than the initramfs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.vm import VM, Machine
from provision.media import identity
from provision.media.site_archive import site_archive
from provision.seed import File, archive
from provision.seed_signature import Signer
from tests.boot.boots import TIMEOUT
from tests.boot.drives import Drive, drive
from tests.helpers.small_image import small_image

OURS, THEIRS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
MACHINE_ID = {"node7": "7" * 32, "node8": "8" * 32}


def signed(host: str, key: Ed25519PrivateKey, epoch: int = 3) -> bytes:
    """A host's seed, which names its disk, as a site signs it."""
    about = {"format": 1, "host": host, "revision": "ab" * 32, "uuid": None, "disk": {"serial": "boot-7"}}
    tree = {
        "/etc/hostname": File(f"{host}\n".encode()),
        "/etc/machine-id": File(f"{MACHINE_ID[host]}\n".encode()),
        "/etc/provision/host.json": File(json.dumps(about, indent=2).encode(), "0600"),
    }
    return archive(host, "ab" * 32, tree, Signer(epoch, (key.public_key().public_bytes_raw().hex(),), key))


def said(lab: Lab, name: str, image: Image, drives: list[Drive], more: bytes, until: str, *arguments: str) -> list[str]:
    """What the initramfs says of seeds and disks until it says something that matches `until`."""
    initrd = lab.directory / f"{name}.initrd"
    initrd.write_bytes(image.initrd.read_bytes() + more)
    line = " ".join((*image.kernel_arguments, *arguments))
    own = tuple(word for number, one in enumerate(drives) for word in one.arguments(number))
    machine = Machine(name, kernel=image.kernel, initrd=initrd, arguments=line, extra=own, memory=1024)
    with VM(lab, machine) as vm:
        vm.wait_for(until, TIMEOUT)
        return [
            text.rstrip() for text in vm.console.splitlines() if text.startswith(("provision-disk: ", "PROVISION "))
        ]


def replaced(own: Drive, path: Path, content: bytes) -> Drive:
    """A copy of the disk with a newer identity in it."""
    part = own.part()
    assert part is not None
    path.write_bytes(own.path.read_bytes())
    with path.open("r+b") as file:
        for at, data in identity.write(part.size, 0, 99, content):
            file.seek(part.offset + at)
            file.write(data)
    return Drive(path, replace(own.kind, serial="other"))


@pytest.mark.long
def test_only_a_seed_of_the_own_site_and_only_the_named_identity_is_taken(lab: Lab, probe: Image) -> None:
    image, knows = small_image(), site_archive([OURS.public_key().public_bytes_raw()], [], [])
    own = drive(lab)
    first = said(lab, "first", image, [own], knows + signed("node7", OURS), "the identity is stored on vda")
    assert first == ["provision-disk: the identity is stored on vda"]
    stored = own.stored()
    assert stored is not None and b"provision-seed/signature" in stored.content

    again = said(lab, "again", image, [own], knows + signed("node8", THEIRS), "this host has its identity from")
    assert again == [
        "provision-disk: the seed of this boot is refused: it is not signed by this site",
        "provision-disk: this host has its identity from vda1",
    ]
    older = said(lab, "older", image, [own], signed("node7", OURS, epoch=2), "this host has its identity from")
    assert older[0].endswith("it is of the site's epoch 2, and the identity on the disk of 3")
    assert own.stored() == stored

    other = replaced(own, lab.directory / "other.img", signed("node8", THEIRS))
    named = f"provision.identity={MACHINE_ID['node7']}"
    taken = said(lab, "named", probe, [other, own], b"", "this host has its identity from", named)
    assert taken == ["provision-disk: this host has its identity from vdb1"]
    none = said(lab, "none", image, [], knows + signed("node7", THEIRS), "PROVISION SEED REFUSED")
    assert none[-1] == "PROVISION SEED REFUSED: it is not signed by this site"
