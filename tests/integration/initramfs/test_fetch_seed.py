"""A signed image fetches its seed: the image's own program, and the functions of its initramfs, against the server's
boot application and in a network of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from provision.api.secure_boot import NewSecureBootKey
from provision.site_key import KeyUse
from provision.web import boot_app
from tests.helpers.host_programs import load
from tests.helpers.initramfs import SCRIPTS, run
from tests.helpers.netns import isolated, sh
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, IP, MAC1, MAC2, Site, edge, request, site

load("libcrypto")
load("placing")
load("signed_file")
load("tpm")
RECORD: Any = load("record")
load("refusal")
SIGNED_SEED: Any = load("signed_seed")
ANSWERS: Any = load("answers")
PROGRAM: Any = load("fetch-seed")
SERVER, DEAF = "http://10.0.0.1", "http://10.0.0.9"
UKI = INVENTORY.replace("  node1:\n", "  node1:\n    chain: uki\n")


@dataclass
class Machine:
    """A machine that has booted the signed image, which knows the keys of the site as they were then."""

    here: Site
    keys: list[bytes]
    macs: list[str] = field(default_factory=lambda: [MAC1])
    said: list[str] = field(default_factory=list)
    file: bytes = b""
    """What was fetched, as the site has signed it."""
    instead: tuple[int, bytes] | None = None
    """What the server's answer becomes."""

    def fetch(
        self,
        *servers: str,
        patience: float = 0,
        own: Callable[[], list[str]] | None = None,
        heard: set[str] | None = None,
    ) -> bytes | None:
        app, instead = boot_app.create(self.here.service.netboot, edge()), self.instead

        class Connection:
            def __init__(self, host: str, port: int, timeout: float) -> None:
                self.host = host

            def request(self, method: str, path: str, body: None, headers: dict[str, str]) -> None:
                if self.host != "10.0.0.1":
                    raise OSError(113, "No route to host")
                self.reply = request(app, method, path, peer=IP[MAC1])
                if instead is not None:
                    self.reply = replace(self.reply, status=instead[0], body=instead[1])

            def getresponse(self) -> Any:
                return self

            @property
            def status(self) -> int:
                return self.reply.status

            def read(self, most: int) -> bytes:
                return self.reply.body[:most]

            def close(self) -> None:
                pass

        with patch.object(ANSWERS, "HTTPConnection", Connection):
            found = PROGRAM.fetch(servers, self.keys, own or (lambda: self.macs), self.said.append, patience, 0, heard)
        self.file = found[1] if found else b""
        return found and bytes(found[0])

    def stored(self, part: Path, least: int | None = 0) -> bytes | None:
        """The seed on the machine's disk; its TPM remembers `least`, None when there is no TPM."""

        def device() -> Any:
            if least is None:
                raise FileNotFoundError(2, "none")
            return SimpleNamespace(counter=lambda index: {SIGNED_SEED.NEWEST: least}[index])

        found = PROGRAM.stored(str(part), self.keys, lambda: self.macs, self.said.append, device)
        return found and bytes(found[0])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with site(tmp_path, UKI) as here:
        here.service.secure_boot.init(NewSecureBootKey(), ROOT)
        yield Machine(here, [key.public for key in here.service.site_keys.trusted(KeyUse.SIGNING)])


def test_it_takes_its_own_seed_from_the_server_that_answers(machine: Machine) -> None:
    found = machine.fetch(DEAF, SERVER)
    assert found is not None and b'"host": "node1"' in found
    assert machine.said == [f"provision-seed: {DEAF}: no answer ([Errno 113] No route to host)"]


def test_it_takes_no_seed_that_another_key_has_signed(machine: Machine) -> None:
    """The image that it has booted knows the first key only."""
    service = machine.here.service
    [first] = service.site_keys.trusted(KeyUse.SIGNING)
    service.site_keys.roll(KeyUse.SIGNING, ROOT)
    assert machine.fetch(SERVER) is not None, "both are good, and the first one signs"
    service.site_keys.retire(first.number, ROOT)
    assert machine.fetch(SERVER, patience=0.3) is None
    assert machine.said == [f"provision-seed: {SERVER}: the seed is not signed by this site"], "it is said once"


def test_it_takes_no_other_host_s_and_says_what_the_server_says(machine: Machine) -> None:
    machine.macs = [MAC2]
    assert machine.fetch(SERVER) is None
    assert machine.said == [f"provision-seed: {SERVER}: the seed is node1's, which has no NIC of this machine"]
    machine.here.apply(UKI.replace("    chain: uki\n", "    chain: uki\n    netboot: never\n", 1))
    machine.said.clear()
    assert machine.fetch(SERVER) is None
    assert "node1 is set never to boot from the network; Set 'netboot: window'" in machine.said[0]


def test_it_takes_the_newest_seed_on_its_own_disk(machine: Machine, tmp_path: Path) -> None:
    """Nobody answers. Which one is the newest, the TPM says."""
    part, seeds = tmp_path / "part", []
    part.write_bytes(bytes(256 * 1024))
    for _ in range(2):
        seeds.append((machine.fetch(SERVER), machine.file))
        machine.here.apply(UKI.replace("domain: example.test", "domain: other.test"))
    first, second = seeds
    RECORD.Partition(str(part)).write(RECORD.pack(b"an envelope", second[1]))
    newest = SIGNED_SEED.sequence(second[1])
    assert machine.stored(part, newest) == second[0] and second[0] != first[0]
    RECORD.Partition(str(part)).write(RECORD.pack(b"an envelope", first[1]))
    assert machine.stored(part, newest) is None
    assert f"and {newest} was stored already" in machine.said[-1]
    assert machine.stored(part, None) is None and "no TPM says whether it is the newest" in machine.said[-1]
    machine.macs = [MAC2]
    assert machine.stored(part) is None and "which has no NIC of this machine" in machine.said[-1]


@pytest.mark.parametrize("change", ["bit", "key", "unsigned", "clear", "empty"])
def test_it_takes_nothing_else_from_a_disk(machine: Machine, tmp_path: Path, change: str) -> None:
    """Who can write to the disk would run what he likes in the signed image."""
    part = tmp_path / "part"
    part.write_bytes(bytes(256 * 1024))
    archive = machine.fetch(SERVER)
    assert archive is not None
    seed = {
        "bit": machine.file[:-9] + bytes([machine.file[-9] ^ 1]) + machine.file[-8:],
        "key": machine.file,
        "unsigned": archive,
        "clear": b"",
        "empty": b"",
    }[change]
    if change == "key":
        machine.keys = [bytes(32)]
    if change == "clear":
        RECORD.Partition(str(part)).write(archive)
    elif change != "empty":
        RECORD.Partition(str(part)).write(RECORD.pack(b"an envelope", seed))
    assert machine.stored(part) is None
    assert machine.said[-1].startswith(f"provision-seed: {part}: ")


def test_silence_is_told_from_a_no(machine: Machine) -> None:
    heard: set[str] = set()
    assert machine.fetch(DEAF, heard=heard) is None and not heard
    cannot = b'{"detail": "the clock", "rule": "clock-went-back"}'
    for status, content in ((200, b"<html>"), (404, b"<html>"), (503, b'{"detail": "not now"}'), (403, cannot)):
        machine.instead = status, content
        assert machine.fetch(SERVER, heard=heard) is None and not heard, "no provisioning server says no"
    machine.instead = None
    machine.here.apply(UKI.replace("    chain: uki\n", "    chain: uki\n    netboot: never\n", 1))
    assert machine.fetch(SERVER, heard=heard) is None and heard == {SERVER}


def test_a_nic_that_turns_up_late_is_one_of_the_machine(machine: Machine) -> None:
    looks = iter([[], [MAC2], [MAC1]])
    assert machine.fetch(SERVER, patience=60, own=lambda: next(looks)) is not None


DEPENDENCIES = """\
builtin hid
insmod /lib/modules/6.1.0/kernel/drivers/usb/common/usb-common.ko
insmod /lib/modules/6.1.0/kernel/drivers/usb/storage/usb-storage.ko
insmod /lib/modules/6.1.0/kernel/drivers/net/mii.ko
insmod /lib/modules/6.1.0/kernel/drivers/net/usb/usbnet.ko
insmod /lib/modules/6.1.0/kernel/drivers/net/usb/cdc_ether.ko.xz
insmod /lib/modules/6.1.0/kernel/drivers/net/usb/usbnet.ko
"""


def test_of_usb_only_nics_get_their_drivers(tmp_path: Path) -> None:
    (tmp_path / "said").write_text(DEPENDENCIES)
    found = run(tmp_path, f"sys=/nonexistent; . {SCRIPTS}/fetched; usb_nic_modules <{tmp_path}/said")
    assert found.split() == ["cdc_ether", "usbnet"]


def test_a_machine_without_such_devices_loads_no_drivers_for_them(tmp_path: Path) -> None:
    """Modprobe takes no empty list."""
    usb = tmp_path / "sys/bus/usb/devices/1-1"
    commands = (
        f"sys={tmp_path}/sys; . {SCRIPTS}/fetched; chroot() {{ echo $* >>{tmp_path}/asked; cat {tmp_path}/said; }}"
    )
    run(tmp_path, f"{commands}; load_usb_nic_drivers; load_modules")
    assert not (tmp_path / "asked").exists()
    usb.mkdir(parents=True)
    (usb / "modalias").write_text("usb:v0525pA4A2\n")
    (tmp_path / "said").write_text(DEPENDENCIES)
    run(tmp_path, f"{commands}; load_usb_nic_drivers; load_usb_nic_drivers")
    assert (tmp_path / "asked").read_text().splitlines() == [
        "/usr/sbin/modprobe -qaD usb:v0525pA4A2",
        "/usr/sbin/modprobe -qab cdc_ether usbnet",
    ]


def test_a_nic_has_a_device_for_each_vlan_of_the_servers(tmp_path: Path) -> None:
    (tmp_path / "vlans").write_text("30\n4094\n")
    commands = f"sys=/sys; . {SCRIPTS}/fetched; ip() {{ echo $* >>{tmp_path}/asked; }}"
    assert run(tmp_path, f"{commands}; site={tmp_path}; tagged nic0").split() == ["nic0.30", "nic0.4094"]
    assert (tmp_path / "asked").read_text().splitlines() == [
        "link add link nic0 name nic0.30 type vlan id 30",
        "link add link nic0 name nic0.4094 type vlan id 4094",
    ]
    assert run(tmp_path, f"{commands}; site={tmp_path}/none; tagged nic0") == ""


@isolated
def test_what_asks_for_addresses_has_ended_before_the_host_is_configured(tmp_path: Path) -> None:
    sh("ip link add nic0 type veth peer name nic1 && ip link set nic0 up")
    ask = f"clients={tmp_path}/clients; udhcpc -f -i nic0 -s /bin/true >/dev/null 2>&1 & echo $! >$clients"
    end = "stop_asking; [ ! -e /proc/$!/exe ] && [ ! -e $clients ] && echo ended"
    assert run(tmp_path, f"sys=/sys; . {SCRIPTS}/fetched; {ask}; {end}").split() == ["ended"]
