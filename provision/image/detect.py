"""A machine's devices, and the modules of a kernel -> the platform that the machine is.

A device says by its modalias what it is, and modules say by aliases what they serve (Documentation/driver-api/
driver-model of the kernel). Devices behind a bus show up only when the bus has its driver. A capture may come from a
machine without drivers, so what stands behind some devices is derived from them: see `_behind`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from provision.image.capture import Capture, Device
from provision.image.modules import FIRMWARE, Module, Modules
from provision.image.platforms import Firmware, Hardware, Platform
from provision.messages import quoted

_PCI = re.compile(r"pci:v0000(.{4})d0000(.{4})sv.{8}sd0000(.{4})bc(..)sc(..)i")
_VIRTIO = re.compile(r"virtio:d0000(.{4})v")
_USB = re.compile(r"usb:v(.{4})p(.{4}).*ic(..)isc(..)ip")
_CLASSES = {
    "0100": "SCSI controller",
    "0101": "IDE controller",
    "0104": "RAID controller",
    "0106": "SATA controller",
    "0107": "SAS controller",
    "0108": "NVMe disk",
    "01": "storage controller",
    "0200": "Ethernet controller",
    "02": "network controller",
    "0300": "VGA controller",
    "03": "display controller",
    "04": "sound or video",
    "0600": "host bridge",
    "0601": "ISA bridge",
    "0604": "PCI bridge",
    "06": "bridge",
    "07": "serial or modem",
    "08": "system device",
    "0C03": "USB controller",
    "0C04": "Fibre Channel controller",
    "0C05": "SMBus controller",
    "0C06": "InfiniBand controller",
    "10": "cipher engine",
}
_VIRTIO_KINDS = {1: "network", 2: "disk", 3: "console", 4: "random numbers", 5: "balloon", 8: "SCSI", 16: "graphics"}
_VIRTIO_KINDS |= {9: "9P", 18: "input", 19: "socket", 20: "ciphers", 24: "memory", 26: "file system", 27: "pmem"}
# Storage controllers whose disks and drives are SCSI devices to Linux: all but NVMe, which has a class of its own.
_SCSI_HOSTS = re.compile(r"01(?!08)..|0C04")
_ENCLOSING = ("0104", "0107", "0C04")
_VIRTIO_SCSI = 8
_DISK, _DRIVE, _ENCLOSURE = (f"scsi:t-0x{kind:02x}" for kind in (0x00, 0x05, 0x0D))
_USB_STORAGE = "usb:v0000p0000d0000dc00dsc00dp00ic08isc06ip{}in00"
_USB_KEYBOARD = ("usb:v0000p0000d0000dc00dsc00dp00ic03isc01ip01in00", "hid:b0003g0001v00000000p00000000")
_LONG = 72


@dataclass(frozen=True)
class Detected:
    """A machine as a platform; `idle` are PCI and virtio devices that this kernel has no driver for."""

    platform: Platform
    idle: tuple[Device, ...]


def detect(
    capture: Capture, modules: Modules, vetoes: Mapping[str, str], packaged: Container[str], name: str
) -> Detected:
    """Match devices with modules; `vetoes` are patterns of modules with reasons, `packaged` the paths of packages."""
    vetoed = {m.name: why for pattern, why in vetoes.items() for m in modules.matching(pattern)}
    needed: dict[str, list[Device]] = {}
    idle: list[Device] = []
    for device in capture.devices:
        hidden = [other for other in _behind(device) if not _shows(capture, device, other.alias)]
        for seen in (device, *hidden):
            found = modules.asked(seen.alias)
            for module in found:
                needed.setdefault(module.name, []).append(seen)
            if seen is device and not found and not modules.is_builtin(seen.alias) and _is_card(seen):
                idle.append(seen)
    wanted = {module: tuple(_grouped(needed[module])) for module in sorted(needed) if module not in vetoed}
    platform = Platform(
        name=name,
        hardware=" ".join(capture.dmi[key] for key in ("sys_vendor", "product_name") if key in capture.dmi),
        kernel=modules.version,
        modules=wanted,
        vetoed={module: vetoed[module] for module in sorted(needed) if module in vetoed},
        firmware=_firmware([modules.by_name[module] for module in wanted], packaged),
    )
    return Detected(platform, tuple(idle))


def slug(text: str) -> str:
    """A platform's name made of what a machine calls itself."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:40].strip("-") or "platform"


def _behind(device: Device) -> Iterator[Device]:
    """What shows itself only when the device has its driver.

    A virtio device behind its PCI function (its number is in the PCI device id; in that of the subsystem for the
    transitional ids, see the virtio specification, 4.1.2); disks, drives and enclosures of whatever is a SCSI host;
    sticks and keyboards that may be plugged into USB.
    """
    pci, virtio = _PCI.match(device.alias), _VIRTIO.match(device.alias)
    kind = pci[4] + pci[5] if pci else ""
    number = int(virtio[1], 16) if virtio else None
    if pci and pci[1] == "1AF4":
        number = _virtio_number(int(pci[2], 16), int(pci[3], 16))
        if number is not None:
            yield Device(device.path, f"virtio:d{number:08X}v00001AF4")
    if (_SCSI_HOSTS.fullmatch(kind) and number is None) or number == _VIRTIO_SCSI:
        kinds = (_DISK, _DRIVE, _ENCLOSURE) if kind in _ENCLOSING else (_DISK, _DRIVE)
        yield from (Device(device.path, alias) for alias in kinds)
    if kind == "0C03":
        yield from (Device(device.path, _USB_STORAGE.format(protocol)) for protocol in ("50", "62"))
        yield from (Device(device.path, alias) for alias in (_DISK, _DRIVE, *_USB_KEYBOARD))


def _shows(capture: Capture, device: Device, alias: str) -> bool:
    """Whether such a device was seen behind this one."""
    return any(other.alias == alias and other.path.startswith(f"{device.path}/") for other in capture.devices)


def _virtio_number(device: int, subsystem: int) -> int | None:
    if 0x1000 <= device < 0x1040:
        return subsystem
    return device - 0x1040 if 0x1040 <= device < 0x1080 else None


def _is_card(device: Device) -> bool:
    pci = _PCI.match(device.alias)
    # Bridges work without a driver.
    return bool(_VIRTIO.match(device.alias)) or bool(pci and pci[4] != "06")


def _grouped(devices: list[Device]) -> Iterator[Hardware]:
    """Devices of the same alias as one, in the order of the first of each."""
    same: dict[str, list[Device]] = {}
    for device in devices:
        same.setdefault(device.alias, []).append(device)
    for alias, found in same.items():
        places = sorted({device.path: device.address for device in found}.values())
        at = places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
        short = alias if len(alias) <= _LONG else f"{alias[:_LONG]}..."
        yield Hardware(at=at, what=describe(found[0]), alias=short)


def describe(device: Device) -> str:
    """In a few words what a device is, and which driver was bound to it."""
    words = _words(device.alias)
    return f"{words}, driver {device.driver}" if device.driver and words else words


def _words(alias: str) -> str:
    if pci := _PCI.match(alias):
        kind = _CLASSES.get(pci[4] + pci[5]) or _CLASSES.get(pci[4]) or f"PCI class {pci[4]}{pci[5]}"
        return f"{kind} {pci[1]}:{pci[2]}".lower().replace(kind.lower(), kind)
    if virtio := _VIRTIO.match(alias):
        number = int(virtio[1], 16)
        return f"virtio {_VIRTIO_KINDS.get(number, f'device {number}')}"
    if alias in (_DISK, _DRIVE, _ENCLOSURE):
        return {_DISK: "SCSI disk", _DRIVE: "CD or DVD drive", _ENCLOSURE: "SCSI enclosure"}[alias]
    if usb := _USB.match(alias):
        kind = {"08": "USB storage", "03": "USB keyboard or mouse", "09": "USB hub"}.get(usb[3], "USB device")
        return kind if usb[1] == "0000" else f"{kind} {usb[1]}:{usb[2]}".replace(usb[1], usb[1].lower())
    bus, _, rest = alias.partition(":")
    plain = {"cpu": "processor", "hid": "USB keyboard or mouse", "dmi": "the machine's model", "input": "input device"}
    return plain.get(bus) or f"{bus} {quoted(rest).strip(chr(39))}"


def _firmware(modules: list[Module], packaged: Container[str]) -> Firmware:
    """The files that modules name, sorted apart by whether a package has them."""
    present: dict[str, tuple[str, ...]] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for module in modules:
        names = sorted(set(module.firmware))
        for kind, files in (
            (present, [n for n in names if f"{FIRMWARE}{n}" in packaged]),
            (missing, [n for n in names if f"{FIRMWARE}{n}" not in packaged]),
        ):
            if files:
                kind[module.name] = tuple(files)
    return Firmware(packaged=present, missing=missing)
