"""What the initramfs stores an identity over: node7's seed names the disk vda, which has something on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from provision.media import gpt, identity
from provision.stored import Refused, parse
from tests.boot import seeds
from tests.helpers.block_devices import MACHINE, Devices, record, seed
from tests.helpers.host_programs import load
from tests.helpers.initramfs import run

RECORD = load("record")
ANOTHER = "vda holds the identity of another host; the inventory may allow to wipe it"
MEDIUM = "vda is a boot medium"
TAKEN = "taken"
WIPED = "the identity of another host on vda is wiped, as the inventory says\ntaken"


def envelope(host: str, seed: bytes = b"") -> bytes:
    """The first copy of a record that is sealed for the TPM of that host."""
    return identity.first(
        RECORD.pack(b'provision-envelope 1\nab\n{"approvals":[],"host":"%s"}\n' % host.encode(), seed)
    )


def prepared(machine: Devices, way: str = "serial", wipe: bool = False) -> str:
    """What is said of the disk of a seed that names it in this way."""
    top, there = machine.top, machine.top / "provision-seed"
    if there.exists():
        shutil.rmtree(there)
    (there / "root/etc/provision").mkdir(parents=True)
    tree = seeds.files("node7") | {"/etc/machine-id": (0o644, f"{MACHINE['node7']}\n".encode())}
    (there / "manifest.json").write_bytes(seeds.manifest("node7", tree))
    about = {"host": "node7", "disk": {way: "boot-7" if way == "serial" else True} | ({"wipe": True} if wipe else {})}
    (there / "root/etc/provision/host.json").write_text(json.dumps(about, indent=2))
    (top / "etc").mkdir(exist_ok=True)
    (top / "etc/machine-id").write_text("0\n")
    stub = "say_of_disk() { echo $1; }; disk_serial() { echo boot-7; }; write_table() { return 1; }; wipe_disk() { :; }"
    setting = f"chosen=vda; device={top}/dev/vda; sectors=$(cat $sys/block/vda/size); way={way}; new={top}"
    told = f"{machine.stored()}; {stub}; seed={there}; {setting}; cd {top};"
    return run(top, f'{told} if prepare_disk; then echo taken; else echo "$refusal"; fi').strip()


@pytest.mark.parametrize(
    ("content", "said", "allowed"),
    [
        (b"", TAKEN, TAKEN),
        (b"not a record", TAKEN, TAKEN),
        (record("node8")[:5000], TAKEN, TAKEN),
        (record("node7"), TAKEN, TAKEN),
        (envelope("node7"), TAKEN, TAKEN),
        (envelope("node7", seed("node8")), TAKEN, TAKEN),
        (record("node8"), ANOTHER, WIPED),
        (envelope("node8"), ANOTHER, WIPED),
        (envelope("node8", seed("node7")), ANOTHER, WIPED),
        (identity.first(b"an archive of something"), ANOTHER, WIPED),
    ],
)
def test_an_identity_takes_the_place_of_the_hosts_own_or_of_nobodys(
    tmp_path: Path, content: bytes, said: str, allowed: str
) -> None:
    machine = Devices(tmp_path)
    part = machine.add("vda", content)
    before = part.read_bytes()
    assert prepared(machine) == said
    assert said == TAKEN or isinstance(parse(f"refused {said}"), Refused), "the server understands it"
    assert prepared(machine, wipe=True) == allowed
    assert part.read_bytes() == before and not (tmp_path / "provision-seed.cpio").exists()


def test_the_newest_copy_says_whose_it_is(tmp_path: Path) -> None:
    machine = Devices(tmp_path)
    part = machine.add("vda", record("node8"))
    size = part.stat().st_size
    with part.open("r+b") as file:
        for at, data in identity.write(size, 1, 2, seed("node7")):
            file.seek(at)
            file.write(data)
    assert prepared(machine) == TAKEN


@pytest.mark.parametrize(
    ("slot", "way", "content", "said"),
    [
        ("slot-a", "smallest", b"", MEDIUM),
        ("esp-b", "largest", record("node8"), MEDIUM),
        ("slot-a", "smallest", record("node7"), TAKEN),
        ("esp-a", "serial", b"", TAKEN),
        ("slot-b", "serial", record("node8"), ANOTHER),
    ],
)
def test_a_disk_image_is_written_to_when_it_is_the_hosts_own_disk(
    tmp_path: Path, slot: str, way: str, content: bytes, said: str
) -> None:
    machine = Devices(tmp_path)
    machine.add("vda", content)
    machine.name("vda", 2, f"provision-{slot}")
    assert prepared(machine, way) == said


def test_another_partition_is_no_sign_of_a_medium(tmp_path: Path) -> None:
    machine = Devices(tmp_path)
    machine.add("vda", b"")
    machine.name("vda", 2, "provision-data")
    (tmp_path / "dev/vda2").touch()
    assert prepared(machine, "smallest") == TAKEN


@pytest.mark.parametrize("wipe", [False, True])
@pytest.mark.parametrize(("at", "label"), [(32769, b"CD001"), (None, b"provision-boot")])
def test_a_medium_without_a_place_for_an_identity_is_never_written_to(
    tmp_path: Path, at: int | None, label: bytes, wipe: bool
) -> None:
    """An ISO that was written to a disk, and the boot partition of a disk image."""
    machine = Devices(tmp_path)
    part = machine.add("vda", b"", gpt.LINUX, "boot")
    with (tmp_path / "dev/vda" if at else part).open("r+b") as file:
        file.seek(at or 1144)
        file.write(label)
    assert prepared(machine, wipe=wipe) == MEDIUM


def test_what_is_neither_is_wiped_when_the_inventory_says_so(tmp_path: Path) -> None:
    machine = Devices(tmp_path)
    machine.add("vda", b"", gpt.LINUX, "somebody's")
    assert prepared(machine) == "vda holds something else; the inventory may allow to wipe it"
    said = ["vda is wiped, as the inventory says", "vda takes no partition table"]
    assert prepared(machine, wipe=True).splitlines() == said, "the table is not written here"
