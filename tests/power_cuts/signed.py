"""A disk of signed images, which UEFI firmware starts without a boot loader, and what its host writes to it.

The host's own program writes to the disk's file, and what it writes and when it flushes goes to the log. In both slots
is the image of the bench; each says on the console which one it is. What the firmware is told goes to its variables.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from provision.image.build import Image
from provision.lab.crashes import State
from provision.lab.lans import Lab
from provision.lab.processes import WaitFailed
from provision.lab.vm import VM, Device, Firmware, Machine, prepare_firmware
from provision.lab.write_log import Entry, Flush, Write
from provision.media import identity, uki
from provision.media.image_slots import USUAL
from provision.media.unified import STUB
from tests.helpers import firmware_variables, slot_firmware
from tests.power_cuts import records
from tests.power_cuts.machines import SILENCE, VERDICT, Bench, raw
from tests.power_cuts.scenarios import Machines, Recording, copy, facts, seed_of

ACTS = {"signed image written": "write", "signed image on trial": "try", "signed image committed": "commit"}
VERSIONS = {"a": "0a" * 32, "b": "0b" * 32}
"""What is in the slots."""
SIZES = replace(USUAL, slot_room=1 << 20)
_IMAGE = r"provision\.image=(0[ab])"
# The kernel says what it was told.
_LOUD = ("loglevel=7", "no_timer_check")


def signed_image(image: Image, slot: str, *more: str) -> bytes:
    """The image that the slot gets, with `more` words for its kernel. Nobody has signed it: this firmware asks for no
    signature."""
    words = (*(word for word in image.kernel_arguments if word != "quiet"), *_LOUD, *more)
    sections = {
        ".linux": image.kernel.read_bytes(),
        ".osrel": b"ID=provision\n",
        ".cmdline": " ".join((*words, f"provision.image={VERSIONS[slot][:16]}")).encode(),
        ".initrd": image.initrd.read_bytes(),
    }
    return uki.build(STUB.read_bytes(), sections)


@dataclass
class OnSigned:
    """One of the ACTS, on UEFI."""

    name: str
    _slots: dict[str, tuple[int, str]] = field(default_factory=dict)
    _told: dict[str, bytes] = field(default_factory=dict)

    @property
    def act(self) -> str:
        """What the host does."""
        return ACTS[self.name]

    def record(self, machines: Machines, directory: Path) -> Recording:
        """Let it happen, each time that it is asked for: it takes a second."""
        shutil.rmtree(directory / "machine", ignore_errors=True)
        (directory / "machine").mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patched:
            return self._record(machines.bench.image, directory, patched)

    def _record(self, image: Image, directory: Path, patched: pytest.MonkeyPatch) -> Recording:
        first, before, log = directory / "machine/first", directory / "before.img", directory / "log"
        first.write_bytes(signed_image(image, "a"))
        machine = slot_firmware.Firmware(directory / "machine", first, VERSIONS["a"], SIZES, patched)
        put_identity(machine.path)
        second = machine.slot_file(signed_image(image, "b"))
        for slot, content in (("a", machine.content("a")[: second.stat().st_size]), ("b", second.read_bytes())):
            self._slots[slot] = len(content), hashlib.sha256(content).hexdigest()
        for act, arguments in (("write", (second, f"{VERSIONS['b']}:1:1")), ("try", ()), ("commit", ())):
            if act == "commit":
                assert machine.starts() == "b"
            if act == self.act:
                break
            machine.call(act, *arguments)
        copy(machine.path, before)
        with written(machine.path, log) as entries:
            machine.call(act, *arguments)
        self._told = machine.trial
        _assert_left_alone(machine, entries)
        shutil.rmtree(directory / "machine")
        return Recording(before, log, tuple(entries))

    def facts(self, disk: Path) -> dict[str, str]:
        """The identity and the partitions, which slot comes first, and whether what a slot says it has is there."""
        parts = records.table(disk)
        if parts is None:
            return {"table": "broken"}
        default = _default(parts)
        whole = {f"slot {slot}": self._holds(disk, parts, slot) for slot in VERSIONS}
        first = {"default": default if whole[f"slot {default}"] == "whole" else "broken"}
        return facts(disk) | whole | first

    def _holds(self, disk: Path, parts: records.Parts, slot: str) -> str:
        offset, size = parts[f"provision-esp-{slot}"]
        length, digest = self._slots[slot]
        with disk.open("rb") as file:
            file.seek(offset + size - 512)
            if file.read(512) == b"\0" * 512:
                return "empty"
            file.seek(offset)
            return "whole" if hashlib.sha256(file.read(length)).hexdigest() == digest else "broken"

    def boot(self, machines: Machines, recording: Recording, state: State, disk: Path, again: bool) -> str:
        """Boot the disk in this state, in the new file `disk`, by the firmware; returns what is wrong then."""
        with recording.crashed(disk) as crashed:
            crashed.put(state)
        # Firmware is told behind the first flush, and forgets it when it starts the slot.
        told = self._told if self.act == "try" and state.durable >= 2 else {}
        wanted = "b" if told else _default(records.table(disk) or {})
        try:
            line, slot = _boot(machines.bench, disk, told)
        except WaitFailed as error:
            return f"brick: {error}"
        finally:
            disk.unlink()
        if not line.startswith("this host has its identity from"):
            return f"lost: it says {line!r}"
        return "" if slot == f"0{wanted}" else f"brick: image {slot} was started, and not that of slot {wanted}"


def _default(parts: records.Parts) -> str:
    names = [name for name in parts if name.startswith("provision-esp-")]
    return names[0][-1]


def put_identity(disk: Path, more: Mapping[str, bytes] = MappingProxyType({})) -> None:
    """Give a factory's disk its host's identity, and more files of it by path."""
    offset, _ = (records.table(disk) or {})[identity.NAME]
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(identity.first(seed_of("oem", more)))


def _boot(bench: Bench, disk: Path, told: dict[str, bytes]) -> tuple[str, str]:
    device = ("-device", "virtio-blk-pci,drive=own,serial=boot-7,bootindex=1")
    machine = Machine(
        f"signed.{disk.name}", Firmware.UEFI, order=(Device.DISK,), memory=512, extra=(*raw(disk), *device)
    )
    with told_machine(bench.lab, machine, told) as vm:
        line = vm.wait_for(VERDICT.pattern, SILENCE)["line"]
        return line, vm.wait_for(_IMAGE, SILENCE)[1]


def told_machine(lab: Lab, machine: Machine, told: Mapping[str, bytes]) -> VM:
    """The machine, whose firmware has never run, and has these variables."""
    vm = VM(lab, machine)
    shutil.rmtree(vm.directory, ignore_errors=True)
    vm.directory.mkdir()
    variables = prepare_firmware(machine.firmware, vm.directory)
    assert variables is not None
    for name, content in told.items():
        firmware_variables.add(variables, name, content)
    return vm


@contextmanager
def written(disk: Path, log: Path) -> Iterator[list[Entry]]:
    """What this process writes to the disk and when it flushes that, as long as the block lasts; the bytes go to
    `log`."""
    entries: list[Entry] = []
    write, flush = os.pwrite, os.fsync
    number = disk.stat().st_ino

    with log.open("wb") as file, pytest.MonkeyPatch.context() as patched:

        def pwrite(descriptor: int, content: bytes, at: int) -> int:
            done = write(descriptor, content, at)
            if os.fstat(descriptor).st_ino == number:
                entries.append(Write(at, done, file.tell()))
                file.write(content[:done])
            return done

        def fsync(one: Any) -> None:
            flush(one)
            if os.fstat(one if isinstance(one, int) else one.fileno()).st_ino == number:
                entries.append(Flush())

        patched.setattr(os, "pwrite", pwrite)
        patched.setattr(os, "fsync", fsync)
        yield entries


def _assert_left_alone(machine: slot_firmware.Firmware, entries: Sequence[Entry]) -> None:
    """Slot a is what the host falls back to."""
    part = machine.parts["a"]
    first, last = part.first * 512, part.last * 512 + 512
    writes = [one for one in entries if isinstance(one, Write)]
    assert writes and not any(one.offset < last and one.offset + one.size > first for one in writes)


SIGNED_SCENARIOS = tuple(map(OnSigned, ACTS))
