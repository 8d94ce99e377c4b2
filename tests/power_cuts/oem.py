"""A disk in two slots, as a factory writes it, and what its host and its boot loader write to it.

What is in both slots is the image of the bench. The host that grows the disk and writes its second slot is the host
image, started from its kernel: it has the programs for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

from provision import proc
from provision.image.build import Image
from provision.lab.crashes import State
from provision.lab.processes import WaitFailed
from provision.lab.vm import VM, Device, Machine
from provision.lab.write_log import Entry, Write, content, read
from provision.media import identity, image_slots
from provision.media.authoring import Ingredients
from provision.media.disk import build_disk
from provision.media.loaders import copy_loaders, find_loaders
from provision.render.grub import disk_config
from provision.render.target import BootTarget
from tests.helpers.host_programs import load
from tests.helpers.small_image import small_image
from tests.power_cuts import records
from tests.power_cuts.machines import SILENCE, VERDICT, Bench, logged, raw
from tests.power_cuts.scenarios import Machines, Recording, copy, facts, seed_of

SIZE = 384 << 20
"""The real disk, which is larger than what the factory wrote to it."""
_MARK = "power-cuts: "
PHASES = ("growth", "slot writing", "trial set", "slot committed")
# The last sector of the partition for GRUB's BIOS image is nobody's: it says in the log what has been done.
_PROGRAM = f"""\
import subprocess
from pathlib import Path

SLOTS = "/usr/lib/provision/slots"


def run(*command):
    subprocess.run(command, check=True)


def done(what):
    with open("/dev/vda1", "r+b") as file:
        file.seek(-512, 2)
        file.write(f"{_MARK}{{what}}\\n".encode().ljust(512))
        file.flush()
        __import__("os").fsync(file.fileno())
    print(f"{_MARK}{{what}}", flush=True)


done("growth")
source, work = Path("/run/source"), Path("/run/second")
source.mkdir()
work.mkdir()
run("mount", "-o", "ro", "/dev/vda4", source)
arguments = work / "arguments"
arguments.write_text((source / "boot/grub/grub.cfg").read_text().split("vmlinuz ")[1].split(" $slot")[0] + "\\n")
run(SLOTS, "write", source / "boot/vmlinuz", source / "boot/initrd0.img", arguments, "second")
run("umount", source)
done("slot writing")
run(SLOTS, "try")
done("trial set")
cmdline = work / "cmdline"
cmdline.write_text(Path("/proc/cmdline").read_text().replace("provision.slot=a", "provision.slot=b"))
run("mount", "--bind", cmdline, "/proc/cmdline")
run(SLOTS, "commit")
done("slot committed")
"""
_UNIT = """\
[Unit]
AllowIsolate=yes
Wants=provision-data.service
After=provision-data.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /etc/provision/record
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""


def factory_disk(image: Image, path: Path, arguments: Sequence[str] = (), files: Mapping[str, bytes] = {}) -> Path:
    """A disk of this image with an identity, in the file `path`; its kernel gets these `arguments` besides, and its
    host these `files`."""
    scratch = path.with_suffix(".parts")
    (scratch / "loaders").mkdir(parents=True, exist_ok=True)
    loaders = copy_loaders(find_loaders(None)[0], scratch / "loaders")
    slots = build_disk(Ingredients("cd" * 32, image.kernel, (image.initrd,), loaders, 1 << 20), path, scratch)
    target = BootTarget("node7", "/boot/vmlinuz", ("/boot/initrd0.img",), None, (*image.kernel_arguments, *arguments))
    more = {"/etc/provision/record": _PROGRAM.encode(), "/etc/systemd/system/record.service": _UNIT.encode()}
    contents = {"identity": identity.first(seed_of("oem", more | dict(files))), "grub.cfg": disk_config(target)}
    with path.open("r+b") as file:
        for name, slot in slots.items():
            file.seek(slot.offset)
            file.write(contents[name])
        file.truncate(SIZE)
    return path


def on_trial(disk: Path) -> None:
    """Have its second slot be as the first one, and on trial."""
    parts = records.table(disk)
    assert parts is not None
    (first, size), (second, _) = parts["provision-slot-a"], parts["provision-slot-b"]
    with disk.open("r+b") as file:
        file.seek(first)
        slot = file.read(size)
        file.seek(second)
        file.write(slot)
        file.seek(records.environment_at(disk))
        text = image_slots.environment().replace(b"try=\ntries=\n", b"try=b\ntries=x\n")
        file.write(text[: len(image_slots.environment())])


def disk_facts(disk: Path) -> dict[str, str]:
    """What the disk says: the identity and the partitions, which slot is booted, and whether that one is whole."""
    if records.table(disk) is None:
        return {"table": "broken"}
    known = records.environment(disk)
    if known is None:
        return facts(disk) | {"environment": "broken"}
    slot = known["slot"]
    more = {"trial": known["try"] + known["tries"], "whole": _whole(disk, slot), "data": _data(disk)}
    return facts(disk) | {"default": slot} | more


def _whole(disk: Path, slot: str) -> str:
    """Nothing writes to slot a, which `record` has made sure of; slot b is to have the same kernel and initrd."""
    if slot == "a":
        return "as it was"
    parts = records.table(disk) or {}
    sums = []
    for name in ("provision-slot-a", "provision-slot-b"):
        for path in ("boot/vmlinuz", "boot/initrd0.img"):
            argv = ["debugfs", "-R", f"cat /{path}", f"{disk}?offset={parts[name][0]}"]
            sums.append(proc.run(argv, package="e2fsprogs").stdout)
    return "the new image" if sums[:2] == sums[2:] and all(sums) else "broken"


@cache
def _programs() -> tuple[ModuleType, ModuleType]:
    """The host's own: of partition tables, and of its data."""
    load("superblock")
    return load("gpt"), load("data")


def _data(disk: Path) -> str:
    """A host that finds a file system on its data partition makes none, so it has to be whole."""
    offset, _ = (records.table(disk) or {})["provision-data"]
    gpt, program = _programs()
    with disk.open("rb") as file:
        if not program.has_file_system(file, gpt.read(file).find(gpt.DATA)):
            return "empty"
    argv = ["e2fsck", "-f", "-n", f"{disk}?offset={offset}"]
    return "broken" if proc.run(argv, package="e2fsprogs", ok=range(256)).returncode else "whole"


@dataclass(frozen=True)
class OnDisk:
    """One of the PHASES on the host, or "trial begun", which is the boot loader's part."""

    name: str

    def record(self, machines: Machines, directory: Path) -> Recording:
        """Let it happen, unless it has: what there is in `directory` is taken. All that the host does happens once."""
        if self.name in PHASES:
            host = directory.parent / "host"
            return _phase(_record_host(machines.bench, host), self.name, directory)
        directory.mkdir(parents=True, exist_ok=True)
        before, log, disk = directory / "before.img", directory / "log", directory / "disk.img"
        if not (directory / "recorded").exists():
            on_trial(factory_disk(machines.bench.image, before))
            copy(before, disk)
            _boot(machines.bench, logged(disk, log), "recorded")
            disk.unlink()
            (directory / "recorded").touch()
        return Recording(before, log, read(log))

    def facts(self, disk: Path) -> dict[str, str]:
        """What the disk says."""
        return disk_facts(disk)

    def boot(self, machines: Machines, recording: Recording, state: State, disk: Path, again: bool) -> str:
        """Boot the disk in this state, in the new file `disk`, by the firmware; returns what is wrong then."""
        with recording.crashed(disk) as crashed:
            crashed.put(state)
        try:
            line = _boot(machines.bench, raw(disk), disk.name)
        except WaitFailed as error:
            return f"brick: {error}"
        finally:
            disk.unlink()
        return "" if line.startswith("this host has its identity from") else f"lost: it says {line!r}"


def _boot(bench: Bench, drive: tuple[str, ...], label: str) -> str:
    device = ("-device", "virtio-blk-pci,drive=own,serial=boot-7,bootindex=1")
    machine = Machine(f"disk.{label}", bench.firmware, order=(Device.DISK,), memory=512, extra=(*drive, *device))
    with VM(bench.lab, machine) as vm:
        return vm.wait_for(VERDICT.pattern, SILENCE)["line"]


def _record_host(bench: Bench, directory: Path) -> Recording:
    """All PHASES, one after the other, by a host whose machine has the disk."""
    directory.mkdir(parents=True, exist_ok=True)
    before, log, disk = directory / "before.img", directory / "log", directory / "disk.img"
    if not (directory / "recorded").exists():
        copy(factory_disk(bench.image, before), disk)
        image = small_image()
        words = (*image.kernel_arguments, "provision.slot=a", "systemd.unit=record.service")
        machine = Machine(
            "host",
            kernel=image.kernel,
            initrd=image.initrd,
            arguments=" ".join(words),
            memory=1536,
            extra=(*logged(disk, log), "-device", "virtio-blk-pci,drive=own,serial=boot-7"),
        )
        with VM(bench.lab, machine) as vm:
            vm.wait_for(rf"^{_MARK}{PHASES[-1]}", 400)
        disk.unlink()
        (directory / "recorded").touch()
    return Recording(before, log, read(log))


def _phase(whole: Recording, name: str, directory: Path) -> Recording:
    """What the host wrote in one of its phases, on a disk as the phase before has left it."""
    directory.mkdir(parents=True, exist_ok=True)
    ends = [0, *_ends(whole)]
    number = PHASES.index(name)
    before = directory / "before.img"
    if not before.exists():
        new = directory / "new.img"
        with whole.crashed(new) as disk:
            disk.advance(ends[number])
        new.replace(before)
    entries = whole.entries[ends[number] : ends[number + 1]]
    _assert_left_alone(before, entries)
    return replace(whole, before=before, entries=entries)


def _ends(whole: Recording) -> Iterator[int]:
    """Behind which entry each of the PHASES is done: the mark, and the flush behind it."""
    with whole.log.open("rb") as log:
        wanted = list(PHASES)
        for number, entry in enumerate(whole.entries):
            if not wanted or not isinstance(entry, Write) or entry.size > 4096:
                continue
            if f"{_MARK}{wanted[0]}\n".encode() in content(entry, log):
                wanted.pop(0)
                yield number + 2


def _assert_left_alone(disk: Path, entries: Sequence[Entry]) -> None:
    parts = records.table(disk)
    assert parts is not None
    first, size = parts["provision-slot-a"]
    writes = [one for one in entries if isinstance(one, Write)]
    assert not any(one.offset < first + size and one.offset + one.size > first for one in writes)


DISK_SCENARIOS = (OnDisk("trial begun"), *map(OnDisk, PHASES))
