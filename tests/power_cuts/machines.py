"""Machines for many short boots: paused when their initramfs begins, before it has looked at any disk, and resumed
from there with one disk after another."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.errors import Unavailable
from provision.image.build import Image
from provision.lab import write_log
from provision.lab.lans import Lab
from provision.lab.vm import VM, Firmware, Machine

VERDICT = re.compile(
    r"^provision-disk: (?P<line>"
    r"(?P<taken>this host has its identity from \w+)|(?P<stored>the identity is stored on \w+)"
    r"|(?P<none>the configuration partition .* holds no identity|no disk of this machine holds an identity)"
    r"|(?P<refused>the identity .*))$",
    re.MULTILINE,
)
"""What the initramfs says at last of the disk."""
SILENCE = 300.0


class Monitor:
    """The emulator's own socket, by QMP (QEMU Machine Protocol Specification)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SILENCE)
        end = time.monotonic() + SILENCE
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self("qmp_capabilities")

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: object) -> Any:
        """What the emulator answers; raises Unavailable when it refuses."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while line := self._stream.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise Unavailable(f"QEMU's {command}", answer["error"]["desc"])
        raise Unavailable(f"QEMU's {command}", "had no answer")

    def wait_for_event(self, name: str) -> dict[str, Any]:
        """What the emulator says of the next event of that name; raises Unavailable when it ends before."""
        while line := self._stream.readline():
            said: dict[str, Any] = json.loads(line)
            if said.get("event") == name:
                return said
        raise Unavailable(f"QEMU's event {name}", "did not come")

    def wait(self, command: str, *wanted: str) -> str:
        """Ask until the status is one of those."""
        end = time.monotonic() + SILENCE
        while (status := str(self(command).get("status"))) not in wanted:
            if time.monotonic() > end:
                raise Unavailable(f"QEMU's {command}", f"says {status}")
            time.sleep(0.02)
        return status


@dataclass(frozen=True)
class Bench:
    """Where machines of one firmware stand that boot this image from its kernel, with what `seed` has behind it."""

    lab: Lab
    image: Image
    firmware: Firmware

    def machine(self, name: str, drive: tuple[str, ...], seed: bytes, *more: str) -> Machine:
        """A machine with one disk, which is QEMU's node `own`."""
        initrd = self.lab.directory / f"{name.partition('.')[0]}.initrd"
        if not initrd.exists():
            initrd.write_bytes(self.image.initrd.read_bytes() + seed)
        # The kernel says when it starts the initramfs.
        words = [word for word in self.image.kernel_arguments if word != "quiet" and not word.startswith("loglevel")]
        device = ("-device", "virtio-blk-pci,drive=own,serial=boot-7")
        monitor = ("-qmp", f"unix:{self.monitor(name)},server=on,wait=off")
        return Machine(
            name,
            self.firmware,
            kernel=self.image.kernel,
            initrd=initrd,
            arguments=" ".join([*words, "loglevel=7"]),
            memory=512,
            extra=(*drive, *device, *monitor, *more),
        )

    def monitor(self, name: str) -> Path:
        """Its monitor's socket."""
        return self.lab.directory / f"{name}.qmp"

    def pause(self, name: str, seed: bytes) -> Moment:
        """A machine with this seed that is paused before it has read anything of its disk."""
        disk, state = self.lab.directory / f"{name}.img", self.lab.directory / f"{name}.state"
        empty(disk)
        for _ in range(5):
            with VM(self.lab, self.machine(name, raw(disk), seed)) as vm:
                monitor = Monitor(self.monitor(name))
                vm.wait_for("Run /init as init process", SILENCE)
                monitor("stop")
                # On a machine that is very busy the pause may come too late.
                if any(one["stats"]["rd_operations"] for one in monitor("query-blockstats")):
                    continue
                monitor("migrate", uri=f"exec:cat > {state}")
                if monitor.wait("query-migrate", "completed", "failed") == "completed":
                    return Moment(self, name, seed, state)
        raise Unavailable(name, "could not be paused before it looked at its disk")


@dataclass(frozen=True)
class Moment:
    """A paused machine of a bench, which can be resumed any number of times."""

    bench: Bench
    name: str
    seed: bytes
    state: Path

    @contextmanager
    def resumed(self, drive: tuple[str, ...], label: str = "") -> Iterator[VM]:
        """The machine with this disk; `label` tells machines apart that run at the same time."""
        name = f"{self.name}.{label}"
        machine = self.bench.machine(name, drive, self.seed, "-incoming", f"exec:cat {self.state}")
        with VM(self.bench.lab, machine) as vm:
            monitor = Monitor(self.bench.monitor(name))
            monitor.wait("query-status", "paused", "prelaunch")
            monitor("cont")
            monitor.close()
            yield vm

    def verdict(self, drive: tuple[str, ...], label: str = "") -> re.Match[str]:
        """What the initramfs says of the disk, as a match of VERDICT; raises WaitFailed when it says nothing."""
        with self.resumed(drive, label) as vm:
            return vm.wait_for(VERDICT.pattern, SILENCE)


def raw(disk: Path) -> tuple[str, ...]:
    """QEMU's arguments for a disk as node `own`."""
    return "-blockdev", f"driver=raw,node-name=own,file.driver=file,file.filename={disk}"


def logged(disk: Path, log: Path) -> tuple[str, ...]:
    """The same, and what is written goes to a new log, too."""
    log.write_bytes(b"")
    return write_log.arguments("own", disk, log)


def empty(disk: Path, size: int = 64 << 20) -> Path:
    """Make it a disk of zeros."""
    with disk.open("wb") as file:
        file.truncate(size)
    return disk
