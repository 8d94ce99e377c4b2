"""Detection: what a machine's devices ask for, also behind buses whose drivers nobody had loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.image import capture, detect, modules
from provision.image.cache import Cache
from provision.image.capture import Capture, Device
from provision.image.detect import Detected
from provision.image.modules import Modules
from provision.image.tree import Node, Tree
from tests.helpers.image_samples import TOP, file, module
from tests.helpers.paths import FIXTURES

BUILTIN = "kernel/drivers/pci/pcieport.ko\nkernel/drivers/char/tpm/tpm_tis.ko\n"
BUILTIN_INFO = "pcieport.alias=pci:v*d*sv*sd*bc06sc04i00*\0tpm_tis.alias=acpi*:MSFT0101:*\0tpm_tis.license=GPL\0"
Q35 = FIXTURES / "q35.capture"


def said(path: str, *aliases: str, firmware: str = "") -> Node:
    """A module with several aliases."""
    more = {"firmware": firmware} if firmware else {}
    node = module(path, **more)
    info = b"".join(f"alias={alias}\0".encode() for alias in aliases)
    return file(node.path, node.content.read() + info, 0o644)


NODES = [
    said("net/e1000e", "pci:v00008086d000010D3sv*sd*bc*sc*i*"),
    said("net/nic_fw", "pci:v000014E4d0000164Csv*sd*bc*sc*i*", firmware="nic/a.fw"),
    said("net/virtio_net", "virtio:d00000001v*"),
    said("block/virtio_blk", "virtio:d00000002v*"),
    said("scsi/virtio_scsi", "virtio:d00000008v*"),
    said("virtio/virtio_pci", "pci:v00001AF4d*sv*sd*bc*sc*i*"),
    said("ata/ahci", "pci:v*d*sv*sd*bc01sc06i01*"),
    said("nvme/nvme", "pci:v*d*sv*sd*bc01sc08i02*"),
    said("scsi/hba", "pci:v00001000d*sv*sd*bc*sc*i*"),
    said("scsi/sd_mod", "scsi:t-0x00*", "scsi:t-0x0e*"),
    said("scsi/sr_mod", "scsi:t-0x05*"),
    said("scsi/ses", "scsi:t-0x0d*"),
    said("usb/xhci_pci", "pci:v*d*sv*sd*bc0Csc03i30*"),
    said("usb/usb_storage", "usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*", "usb:v0BC2p2300d*dc*dsc*dp*ic*isc*ip*in*"),
    said("usb/usbhid", "usb:v*p*d*dc*dsc*dp*ic03isc*ip*in*"),
    said("acpi/button", "acpi*:LNXPWRBN:*", "acpi*:PNP0C0C:*"),
    said("x86/kvm_amd", "cpu:type:x86,ven*fam*mod*:feature:*00C2*"),
    said("gpu/bochs", "pci:v00001234d00001111sv*sd*bc*sc*i*"),
]
NIC = Device("devices/pci0000:00/0000:00:02.0", "pci:v00008086d000010D3sv00001AF4sd00000000bc02sc00i00", "e1000e")


@pytest.fixture
def kernel(tmp_path: Path) -> Modules:
    own = [
        file("boot/vmlinuz-6.1"),
        file(f"{TOP}/modules.builtin", BUILTIN, 0o644),
        file(f"{TOP}/modules.builtin.modinfo", BUILTIN_INFO, 0o644),
    ]
    return modules.read(Tree([*own, *NODES]), Cache(tmp_path))


def found(kernel: Modules, *devices: Device) -> Detected:
    return detect.detect(Capture(tuple(sorted(devices)), {}), kernel, {"gpu/**": "text only"}, (), "m")


def names(kernel: Modules, *aliases: str) -> set[str]:
    """The modules for devices that no driver is bound to."""
    devices = [Device(f"devices/pci0000:00/0000:00:{n:02x}.0", alias) for n, alias in enumerate(aliases)]
    return set(found(kernel, *devices).platform.modules)


def test_a_module_comes_with_the_hardware_that_needs_it(kernel: Modules) -> None:
    twin = Device(NIC.path.replace("02.0", "03.0"), NIC.alias)
    machine = Capture((NIC, twin), {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35)", "board_name": "x"})
    platform = detect.detect(machine, kernel, {}, (), "m").platform
    assert (platform.name, platform.hardware, platform.kernel) == ("m", "QEMU Standard PC (Q35)", "6.1")
    [device] = platform.modules["e1000e"]
    assert device.at == "0000:00:02.0 and 1 more" and device.alias == NIC.alias
    assert device.what == "Ethernet controller 8086:10d3, driver e1000e"
    assert (
        detect.slug("Standard PC (Q35 + ICH9, 2009)") == "standard-pc-q35-ich9-2009" and detect.slug("") == "platform"
    )


def test_acpi_and_processors(kernel: Modules) -> None:
    assert names(kernel, "acpi:LNXPWRBN:") == {"button"}
    assert names(kernel, "acpi:IPI0001:PNP0C0C:") == {"button"}
    assert names(kernel, "cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,00C2,00C5") == {"kvm_amd"}
    assert names(kernel, "cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,00C5") == set()


@pytest.mark.parametrize(
    ("device", "module"),
    [
        ("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", "virtio_net"),
        ("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "virtio_net"),
        ("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", "virtio_blk"),
    ],
)
def test_virtio_devices_are_known_before_their_bus_has_a_driver(kernel: Modules, device: str, module: str) -> None:
    assert names(kernel, device) == {"virtio_pci", module}


def test_scsi_hosts_bring_the_drivers_of_disks(kernel: Modules) -> None:
    disks = {"sd_mod", "sr_mod"}
    assert names(kernel, "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01") == {"ahci", *disks}
    assert names(kernel, "pci:v00001000d00000097sv00001000sd00003090bc01sc07i00") == {"hba", "ses", *disks}
    scsi = "pci:v00001AF4d00001004sv00001AF4sd00000008bc01sc00i00"
    assert names(kernel, scsi) == {"virtio_pci", "virtio_scsi", *disks}
    assert names(kernel, "virtio:d00000008v00001AF4") == {"virtio_scsi", *disks}
    assert names(kernel, "pci:v00008086d00005845sv00001AF4sd00001100bc01sc08i02") == {"nvme"}


def test_usb_brings_what_may_be_plugged_in(kernel: Modules) -> None:
    usb = names(kernel, "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30")
    assert usb == {"xhci_pci", "usb_storage", "usbhid", "sd_mod", "sr_mod"}


def test_what_is_seen_is_not_guessed_twice(kernel: Modules) -> None:
    pci = Device("devices/pci0000:00/0000:00:02.0", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00")
    virtio = Device(f"{pci.path}/virtio0", "virtio:d00000001v00001AF4", "virtio_net")
    [hardware] = found(kernel, pci, virtio).platform.modules["virtio_net"]
    assert (hardware.at, hardware.what) == ("virtio0", "virtio network, driver virtio_net")


def test_vetoes_and_devices_without_a_driver(kernel: Modules) -> None:
    card = Device("devices/pci0000:00/0000:00:07.0", "pci:v0000ABCDd00000001sv00000000sd00000000bc02sc00i00")
    bridge = Device("devices/pci0000:00/0000:00:08.0", "pci:v00008086d0000AAAAsv00000000sd00000000bc06sc01i00")
    port = Device("devices/pci0000:00/0000:00:09.0", "pci:v00001B36d0000000Csv00000000sd00000000bc06sc04i00")
    tpm = Device("devices/LNXSYSTM:00/MSFT0101:00", "acpi:MSFT0101:")
    vga = Device("devices/pci0000:00/0000:00:01.0", "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00")
    done = found(kernel, card, bridge, port, tpm, vga)
    assert done.platform.modules == {} and done.platform.vetoed == {"bochs": "text only"}
    assert done.idle == (card,)
    assert detect.describe(vga) == "VGA controller 1234:1111"


def test_firmware_says_what_no_package_has(kernel: Modules) -> None:
    nic = Device("devices/x", "pci:v000014E4d0000164Csv00000000sd00000000bc02sc00i00")
    machine = Capture((nic,), {})
    assert detect.detect(machine, kernel, {}, (), "m").platform.firmware.missing == {"nic_fw": ("nic/a.fw",)}
    packaged = detect.detect(machine, kernel, {}, ("usr/lib/firmware/nic/a.fw",), "m").platform.firmware
    assert packaged.missing == {} and packaged.packaged == {"nic_fw": ("nic/a.fw",)}


def test_a_captured_q35(kernel: Modules) -> None:
    done = detect.detect(capture.read(Q35), kernel, {"gpu/**": "text only"}, (), "q35")
    wanted = {"virtio_net", "virtio_blk", "virtio_scsi", "virtio_pci", "ahci", "sd_mod", "sr_mod", "xhci_pci"}
    assert wanted | {"usb_storage", "usbhid", "button", "kvm_amd"} == set(done.platform.modules)
    assert done.platform.vetoed == {"bochs": "text only"}
    assert done == detect.detect(capture.read(Q35), kernel, {"gpu/**": "text only"}, (), "q35")
