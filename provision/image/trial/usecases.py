"""Use cases of a hypervisor, tried in a virtual machine that boots a built image with a seed of their own.

What runs on the host stands in images/usecases, travels in the seed, and is not part of the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision import assets, seed
from provision.errors import Invalid, NotFound, Unavailable
from provision.image.build import Image
from provision.image.packages import Progress
from provision.image.trial import verdict
from provision.image.trial.verdict import Verdict
from provision.lab import storage, visitor
from provision.lab.lans import Lab, Lan
from provision.lab.processes import Patience, plain, wait_for
from provision.lab.vm import VM, Machine, Nic
from provision.seed import File

NAMES = (
    "bridge",
    "vlan",
    "bond",
    "nftables",
    "iscsi",
    "nfs",
    "ext4",
    "xfs",
    "dm-crypt",
    "tpm",
    "vsock",
    "kvm",
    "ssh",
    "system",
)
"""In the order in which they are tried: vsock and kvm share a guest, and system looks back on all of them."""
HOST = "usecases"
MEMORY = 1024
_DIRECTORY = "/etc/provision/usecases"
_VISITED = "/run/usecases/visited"
_MACS = ("52:54:00:00:77:01", "52:54:00:00:77:02", "52:54:00:00:77:03")
_NETWORK = "[Match]\nPermanentMACAddress={mac}\n\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\n"
_UNIT = """\
[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/sh {directory}/run {names}
"""
_WANTS = "[Unit]\nWants=provision-usecases.service\n"
_SCRATCH = 512 << 20
_BOOT, _EACH = 900, 900
"""Seconds without a byte: on the console while the image boots, in the report while a use case is tried."""


def load(directory: Path) -> Image:
    """The image in a directory that `image build -o` filled; raises NotFound or Invalid."""
    try:
        about = json.loads((directory / "image.json").read_bytes())
    except OSError:
        raise NotFound(str(directory), "has no image.json", "fill it with 'provision image build -o'") from None
    except ValueError:
        raise Invalid(str(directory / "image.json"), "is not JSON", "build the image again") from None
    image = Image(directory, about)
    for path in (image.kernel, image.initrd):
        if not path.is_file():
            raise NotFound(str(path), "is missing", "build the image again")
    return image


def chosen(only: Sequence[str]) -> tuple[str, ...]:
    """The named use cases in their order, all when none is named; raises NotFound for one that there is not."""
    for name in only:
        if name not in NAMES:
            raise NotFound(name, "is not a use case", f"there are: {', '.join(NAMES)}")
    return tuple(name for name in NAMES if not only or name in only)


@dataclass(frozen=True)
class Site:
    """What use cases find around their machine: two LANs with a server on each."""

    mgmt: Lan
    spare: Lan
    key: str = ""
    """The public key of who visits the machine by SSH."""

    @property
    def nics(self) -> tuple[Nic, ...]:
        """One NIC that the seed configures, two that use cases take."""
        return tuple(Nic(lan, mac) for lan, mac in zip((self.mgmt, self.spare, self.spare), _MACS, strict=True))


def site(lab: Lab, names: Sequence[str]) -> Site:
    """Build it, with the servers that the named use cases need; raises Unavailable when one is missing."""
    mgmt, spare = lab.lan("mgmt", "10.77.1.0/24"), lab.lan("spare", "10.77.2.0/24")
    key = visitor.visitor(lab, _address(mgmt), _VISITED) if "ssh" in names else ""
    if "iscsi" in names:
        storage.iscsi(lab)
    if "nfs" in names:
        storage.nfs(lab)
    return Site(mgmt, spare, key)


def _address(mgmt: Lan) -> str:
    """The machine's own."""
    return str(mgmt.address + 19)


def files(image: Image, around: Site, names: Sequence[str]) -> dict[str, File]:
    """The seed's files: who the host is, and the use cases with a unit that runs them once."""
    settings = {
        "server": around.mgmt.address,
        "peer": around.spare.address,
        "spare1": _MACS[1],
        "spare2": _MACS[2],
        "target": storage.TARGET,
    }
    own = {f"{_DIRECTORY}/{p.name}": p.read_bytes() for p in assets.directory("images").joinpath("usecases").iterdir()}
    own[f"{_DIRECTORY}/settings"] = "".join(f"{key}={value}\n" for key, value in settings.items()).encode()
    if {"kvm", "vsock"} & set(names):
        # The guest has the kernel of its host.
        own[f"{_DIRECTORY}/vmlinuz"] = image.kernel.read_bytes()
    texts = {
        "/etc/hostname": f"{HOST}\n",
        "/etc/ssh/authorized_keys.d/root": f"{around.key}\n",
        "/etc/provision/host.json": json.dumps({"format": 1, "host": HOST, "servers": {}}),
        "/etc/systemd/network/10-mgmt.network": _NETWORK.format(mac=_MACS[0], address=_address(around.mgmt)),
        "/etc/systemd/system/provision-usecases.service": _UNIT.format(directory=_DIRECTORY, names=" ".join(names)),
        "/etc/systemd/system/multi-user.target.d/usecases.conf": _WANTS,
    }
    return {path: File(data) for path, data in (own | {p: t.encode() for p, t in texts.items()}).items()}


def report_file(lab: Lab) -> Path:
    """What the second serial port of `machine` has said."""
    return lab.directory / "usecases"


def machine(lab: Lab, image: Image, around: Site, tree: Mapping[str, File], arguments: str = "") -> Machine:
    """The machine that tries them: with a TPM, an empty disk, and a serial port of their own."""
    initrd, scratch = lab.directory / "initrd", lab.directory / "scratch.img"
    initrd.write_bytes(image.initrd.read_bytes() + seed.archive(HOST, "0" * 64, tree))
    with scratch.open("wb") as file:
        file.truncate(_SCRATCH)
    extra = ["-serial", f"file:{report_file(lab)}"]
    extra += ["-drive", f"if=none,id=scratch,format=raw,snapshot=on,file={scratch}"]
    extra += ["-device", "virtio-blk-pci,drive=scratch,serial=usecases"]
    words = " ".join((*image.kernel_arguments, arguments)).strip()
    return Machine(
        "host",
        nics=around.nics,
        kernel=image.kernel,
        initrd=initrd,
        arguments=words,
        memory=MEMORY,
        tpm=True,
        extra=tuple(extra),
    )


def watch(vm: VM, lab: Lab, names: Sequence[str], progress: Progress = lambda what, done: None) -> tuple[Verdict, ...]:
    """Wait for the verdicts of a running machine; a machine that stops or takes too long fails what it owes.

    Raises Unavailable when not even the first use case began, with the console's last lines as a note.
    """
    report = report_file(lab)
    wait_for(report, verdict.BEGIN, Patience(_BOOT, vm.console_file, report), "the image", lambda: vm.running)
    for number, name in enumerate(names):
        progress(name, (number + 1) / (len(names) + 1))
        try:
            said = rf"^USECASE (?:(?:pass|fail) {name} .*|end)$"
            wait_for(report, said, Patience(_EACH, report), name, lambda: vm.running)
        except Unavailable:
            break
    else:
        wait_for(report, verdict.END, Patience(_EACH, report), "the image", lambda: vm.running)
    return verdict.parse(plain(report))


def run(image: Image, only: Sequence[str] = (), progress: Progress = lambda what, done: None) -> tuple[Verdict, ...]:
    """Boot an image and try use cases; needs root. Raises Unavailable when it cannot be tried, NotFound for a name."""
    names = chosen(only)
    with Lab("uses") as lab:
        progress("starting servers", 0.0)
        around = site(lab, names)
        with VM(lab, machine(lab, image, around, files(image, around, names))) as vm:
            progress("booting", 1 / (len(names) + 2))
            return watch(vm, lab, names, progress)
