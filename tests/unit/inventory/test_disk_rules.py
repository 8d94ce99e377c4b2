"""The disk of a host: named by one thing, wiped only when it is that very one."""

from __future__ import annotations

import pytest

from provision.host import Disk, Persist
from tests.helpers.inventory_samples import HOSTS, SITE, lines, read


def with_disk(disk: str, more: str = "") -> str:
    return HOSTS.replace("  node1:\n", f"  node1:\n    disk: {disk}\n{more}", 1)


@pytest.mark.parametrize(
    ("text", "disk"),
    [
        ("{serial: S4EVNX0R12345, wipe: yes}", Disk(serial="S4EVNX0R12345", wipe=True)),
        ('{wwn: "0x5000C500A1B2C3D4"}', Disk(wwn="naa.5000c500a1b2c3d4")),
        ("{wwn: eui.0025385b71b00f1a}", Disk(wwn="eui.0025385b71b00f1a")),
        ('{path: "pci0000:00/0000:00:1f.2/ata1"}', Disk(path="pci0000:00/0000:00:1f.2/ata1")),
        ("{smallest: yes}", Disk(smallest=True)),
        ("{largest: yes}", Disk(largest=True)),
    ],
)
def test_a_disk_is_named_by_one_thing(text: str, disk: Disk) -> None:
    found = {host.name: host for host in read(SITE, with_disk(text)).hosts}
    assert found["node1"].disk == disk and found["node2"].disk is None


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{}", "names no disk"),
        ("{wipe: yes}", "names no disk"),
        ("{serial: a1, path: pci0000}", "the disk is named by 'serial' and 'path'"),
        ("{smallest: yes, wipe: yes}", "'wipe' of the smallest disk"),
        ('{serial: "two words"}', "serial"),
        ("{wwn: 5000}", "wwn"),
        ("{path: /sys/devices/pci0000}", "path"),
        ("{name: sda}", "name"),
    ],
)
def test_what_names_no_disk_or_several_is_refused(text: str, fact: str) -> None:
    found = lines(SITE, with_disk(text))
    assert found and all("hosts.node1.disk" in line for line in found)
    assert any(fact in line for line in found), found


def test_a_host_without_storage_has_no_disk() -> None:
    (line,) = lines(SITE, with_disk("{serial: a1}", "    storage: none\n"))
    assert "hosts.node1.disk" in line and "a disk of a host with 'storage: none'" in line


def test_a_host_without_a_disk_has_the_revision_that_it_had_before_there_were_any() -> None:
    (host, *_) = read(SITE, HOSTS).hosts
    assert b"disk" not in host.canonical()
    other = host.model_copy(update={"disk": Disk(serial="a1")})
    assert b'"disk"' in other.canonical() and type(host).from_canonical(other.canonical().decode(), other.revision)


def test_a_signed_image_stores_an_envelope_alone() -> None:
    (line,) = lines(SITE, with_disk("{serial: a1}", "    chain: uki\n"))
    assert "hosts.node1.disk" in line and "stores an envelope alone, and a host without credentials has none" in line
    found = read(SITE, with_disk("{serial: a1}", "    chain: uki\n    credentials: [token]\n"))
    assert found.hosts[0].disk == Disk(serial="a1")


def with_persist(value: str, more: str = "    disk: {serial: a1}\n") -> str:
    return HOSTS.replace("  node1:\n", f"  node1:\n    persist: {value}\n{more}", 1)


def test_what_persists_is_on_the_host_s_own_disk() -> None:
    named = "[ssh-host-keys, journal, libvirt]"
    for more in ("    disk: {serial: a1}\n", "    install: oem\n    netboot: never\n"):
        found = {host.name: host for host in read(SITE, with_persist(named, more)).hosts}
        assert found["node1"].persist == tuple(Persist) and found["node2"].persist == ()


@pytest.mark.parametrize(
    ("value", "more", "fact"),
    [
        ("[journal]", "", "names no disk to persist on"),
        ("[journal]", "    install: oem\n    storage: none\n", "what persists of a host with 'storage: none'"),
        ("[journal]", "    disk: {serial: a1}\n    chain: uki\n", "keeps nothing on a disk"),
        ("[journal, journal]", "    disk: {serial: a1}\n", "names something twice"),
        ("[jurnal]", "    disk: {serial: a1}\n", "journal"),
        ("journal", "    disk: {serial: a1}\n", "persist"),
    ],
)
def test_what_cannot_persist_is_refused(value: str, more: str, fact: str) -> None:
    found = [line for line in lines(SITE, with_persist(value, more)) if "hosts.node1.persist" in line]
    assert found and any(fact in line for line in found), found


def test_a_host_that_keeps_nothing_has_the_revision_that_it_had_before_anything_could_persist() -> None:
    (host, *_) = read(SITE, HOSTS).hosts
    assert b"persist" not in host.canonical().replace(b"persistent", b"")
    other = host.model_copy(update={"persist": (Persist.JOURNAL,)})
    assert type(host).from_canonical(other.canonical().decode(), other.revision) == other
