"""Virtual machines with real firmware, in software emulation: QEMU, SeaBIOS with iPXE's PXE ROM, OVMF, swtpm."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from provision import proc
from provision.errors import Unavailable
from provision.lab import report
from provision.lab.lans import Lab, Lan
from provision.lab.processes import Patience, Process, WaitFailed, last_lines, plain, wait_for, wait_until

_OVMF = Path("/usr/share/OVMF")


class Firmware(StrEnum):
    """What the machine starts with."""

    BIOS = "bios"
    UEFI = "uefi"
    SECURE_BOOT = "uefi-secure-boot"


class Device(StrEnum):
    """What a firmware can boot from, for `Machine.order`."""

    NETWORK = "network"
    CD = "cd"
    USB = "usb"
    DISK = "disk"


@dataclass(frozen=True)
class Nic:
    """One NIC on a LAN; None is a NIC with no cable's other end. `model` is a QEMU device."""

    lan: Lan | None
    mac: str
    model: str = "virtio-net-pci"


@dataclass(frozen=True)
class Machine:
    """What is powered on. `order` is the firmware's boot order: devices that are not in it are never tried.

    `memory` in MiB. `cd`, `usb` and `disk` (raw) are files that are never written to. `cd_url` is a CD that the
    emulator reads by ranges, as a BMC does for its virtual one, without checking a certificate. `http_boot` makes UEFI
    skip PXE and ask for HTTP Boot, and `trusted` are the CAs that it takes for https (a UEFI signature list). `kernel`,
    `initrd` and `arguments` start a kernel with no boot loader. `firmware_text` puts SeaBIOS's own text and what boot
    loaders print through it on the serial console: a loader that writes there by itself is then seen twice.
    """

    name: str
    firmware: Firmware = Firmware.BIOS
    nics: tuple[Nic, ...] = ()
    order: tuple[Device, ...] = (Device.NETWORK, Device.CD, Device.USB, Device.DISK)
    memory: int = 1024
    cd: Path | None = None
    cd_url: str = ""
    usb: Path | None = None
    disk: Path | None = None
    uuid: str | None = None
    tpm: bool = False
    http_boot: bool = False
    trusted: Path | None = None
    firmware_text: bool = False
    kernel: Path | None = None
    initrd: Path | None = None
    arguments: str = ""
    extra: tuple[str, ...] = ()

    @property
    def may_start_over(self) -> bool:
        """Whether a reset starts the machine again instead of ending it: lpxelinux resets a machine to try again."""
        return self.firmware is Firmware.BIOS and Device.NETWORK in self.order and bool(self.nics) and not self.kernel


class VM:
    """A machine in a laboratory: `with VM(lab, Machine(...)) as vm: vm.wait_for("login:", 60)`.

    UEFI variables and TPM state last as long as the object, so a second `start()` finds what the first has left. The
    emulator ends when the guest powers off, and when it reboots unless the machine `may_start_over`.
    """

    def __init__(self, lab: Lab, machine: Machine, namespace: str | None = None) -> None:
        """`namespace` is where the emulator itself runs; None is that of its first LAN, where it reaches nobody."""
        self.lab, self.machine, self._namespace = lab, machine, namespace
        self.directory = lab.directory / f"vm-{machine.name}"
        self.console_file, self.tpm_file = self.directory / "console", self.directory / "tpm-commands"
        self._qemu: Process | None = None
        self._tpm: Process | None = None

    def __enter__(self) -> VM:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop()
        if error is not None and not isinstance(error, WaitFailed):
            error.add_note(
                f"--- the last lines of the console of {self.machine.name}:\n{last_lines(self.console_file)}"
            )

    def start(self) -> None:
        """Power on; the console of an earlier start is forgotten. Raises Unavailable when a tool is missing."""
        self.directory.mkdir(exist_ok=True)
        self.console_file.unlink(missing_ok=True)
        if self.machine.tpm:
            self._start_tpm()
        variables = prepare_firmware(self.machine.firmware, self.directory)
        taps = [nic.lan.tap() if nic.lan else None for nic in self.machine.nics]
        argv = qemu_command(self.machine, self.directory, taps, variables)
        descriptors = [tap for tap in taps if tap is not None]
        lans = [nic.lan for nic in self.machine.nics if nic.lan]
        if self.machine.firmware is Firmware.BIOS and Device.NETWORK in self.machine.order and not self.machine.kernel:
            for lan in lans:
                lan.answer_router_solicitations()
        try:
            # In a LAN's namespace even the emulator itself has no way to the machine's own network.
            self._qemu = self.lab.spawn(
                self._namespace or (lans[0].namespace if lans else None),
                argv,
                package="qemu-system-x86",
                log=f"vm-{self.machine.name}/qemu.log",
                fds=descriptors,
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    @property
    def running(self) -> bool:
        """Whether it is powered on."""
        return self._qemu is not None and self._qemu.running

    @property
    def console(self) -> str:
        """What the serial console has shown so far, without escape sequences."""
        return plain(self.console_file)

    def told_its_tpm(self, command: int) -> int:
        """How often its TPM was told this command (TPM 2.0 Library, part 2, section 6.5.2) since power-on."""
        code = f"{command:08X}"
        heads = re.findall(
            r"SWTPM_IO_Read: length \d+\s+(?:[0-9A-F]{2} ){6}((?:[0-9A-F]{2} ){4})", self.tpm_file.read_text()
        )
        return sum(head.replace(" ", "") == code for head in heads)

    def wait_for(self, pattern: str, silence: float = 120.0) -> re.Match[str]:
        """Wait until the console has shown `pattern` (multi-line mode) since power-on; returns the first match.

        Raises processes.WaitFailed with the console's last 60 lines when the machine is off, or when the console has
        shown nothing new for `silence` seconds: a boot takes as long as the machine that emulates it needs.
        """
        name = f"virtual machine {self.machine.name}"
        if self._qemu is None:
            raise Unavailable(name, "is not started")
        if not self.running and not self.console_file.exists():
            lines = self._qemu.text.strip().splitlines() or ["no message"]
            raise Unavailable(name, f"QEMU failed: {lines[-1]}")
        patience = Patience(silence, self.console_file)
        return wait_for(self.console_file, pattern, patience, name, lambda: self.running)

    def report(self, silence: float = 120.0) -> report.Report:
        """Wait for the probe's report and return it; see `wait_for`."""
        self.wait_for(rf"^{report.END}$", silence)
        return report.parse(self.console)

    def wait_until(self, true: Callable[[], bool], what: str, silence: float = 120.0, pause: float = 1.0) -> None:
        """Wait for what others see of the machine, with the patience of `wait_for`; `what` follows "did not"."""
        name = f"virtual machine {self.machine.name}"
        wait_until(true, Patience(silence, self.console_file), name, what, self.console_file, pause)

    def wait_off(self, silence: float = 120.0) -> None:
        """Wait until the guest has powered itself off, with the patience of `wait_for`."""
        self.wait_until(lambda: not self.running, "switch itself off", silence, 0.1)

    def stop(self) -> None:
        """Cut the power; safe to call again."""
        for process in (self._qemu, self._tpm):
            if process is not None:
                process.stop()

    def make_tpm(self) -> Path:
        """Manufacture its TPM, unless it has one; returns where the state of that is."""
        state = (self.directory / "tpm").resolve()
        if not state.exists():
            state.mkdir(parents=True)
            setup = ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--create-platform-cert"]
            proc.run([*setup, "--lock-nvram"], package="swtpm-tools")
        return state

    def _start_tpm(self) -> None:
        state = self.make_tpm()
        control = state / "control"
        control.unlink(missing_ok=True)
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}"]
        argv += ["--terminate", "--log", f"file={self.tpm_file},level=2,truncate"]
        self._tpm = self.lab.spawn(None, argv, package="swtpm", log=f"vm-{self.machine.name}/tpm.log")
        for _ in range(100):
            if control.exists():
                return
            time.sleep(0.1)
        raise Unavailable("swtpm", "did not open its control socket within 10 s")


def prepare_firmware(firmware: Firmware, directory: Path) -> Path | None:
    """A writable copy of the UEFI variables for a firmware (None for BIOS), kept when it is there already."""
    if firmware is Firmware.BIOS:
        return None
    secure = firmware is Firmware.SECURE_BOOT
    variables = directory / "variables.fd"
    template = _OVMF / ("OVMF_VARS_4M.ms.fd" if secure else "OVMF_VARS_4M.fd")
    if not template.exists():
        raise Unavailable("OVMF", f"{template} is missing", "apt-get install ovmf")
    if not variables.exists():
        shutil.copyfile(template, variables)
    return variables


# With these two kernel and libraries copy by `rep movsb`, which this emulation does one byte at a time.
_CPU = "max,erms=off,fsrm=off"


def qemu_command(machine: Machine, directory: Path, taps: Sequence[int | None], variables: Path | None) -> list[str]:
    """The emulator's command line; `taps` are open descriptors, one for each NIC with a LAN."""
    secure = machine.firmware is Firmware.SECURE_BOOT
    board = "q35" + (",smm=on" if secure else "") + (",graphics=off" if machine.firmware_text else "")
    argv = ["qemu-system-x86_64", "-accel", "tcg", "-machine", board, "-cpu", _CPU, "-m", str(machine.memory)]
    argv += ["-nodefaults", "-display", "none", "-name", machine.name, "-boot", "strict=on"]
    if not machine.may_start_over:
        argv.append("-no-reboot")
    argv += ["-serial", f"file:{_escaped(directory / 'console')}"]
    if not machine.firmware_text:
        # Without a graphics card SeaBIOS has nowhere to write, and isolinux waits for one.
        argv += ["-device", "VGA"]
    if variables is not None:
        argv += _uefi(machine, variables)
    for number, (nic, tap) in enumerate(zip(machine.nics, taps, strict=True)):
        argv += _nic(machine, number, nic, tap)
    argv += _drives(machine)
    if machine.uuid:
        argv += ["-uuid", machine.uuid]
    if machine.tpm:
        control = (directory / "tpm" / "control").resolve()
        argv += ["-chardev", f"socket,id=tpm,path={_escaped(control)}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        argv += ["-device", "tpm-tis,tpmdev=tpm0"]
    if machine.kernel:
        argv += ["-kernel", str(machine.kernel), "-append", machine.arguments]
        argv += ["-initrd", str(machine.initrd)] if machine.initrd else []
    return [*argv, *machine.extra]


def _uefi(machine: Machine, variables: Path) -> list[str]:
    secure = machine.firmware is Firmware.SECURE_BOOT
    code = _OVMF / ("OVMF_CODE_4M.ms.fd" if secure else "OVMF_CODE_4M.fd")
    argv = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
    argv += ["-drive", f"if=pflash,unit=1,format=raw,file={_escaped(variables)}"]
    argv += ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]
    if machine.http_boot:
        argv += ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]
    if machine.trusted:
        argv += ["-fw_cfg", f"name=etc/edk2/https/cacerts,file={_escaped(machine.trusted)}"]
    if secure:
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    return argv


def _boot_index(machine: Machine, device: Device, number: int = 0) -> str:
    return f",bootindex={machine.order.index(device) * 10 + number + 1}" if device in machine.order else ""


def _nic(machine: Machine, number: int, nic: Nic, tap: int | None) -> list[str]:
    backend = f"tap,id=net{number},fd={tap}" if tap is not None else f"hubport,id=net{number},hubid={number}"
    usb = nic.model.startswith("usb-")
    # QEMU's own ROM is iPXE; in UEFI it would take the place of the firmware's network stack.
    rom = "" if machine.firmware is Firmware.BIOS or usb else ",romfile="
    index = _boot_index(machine, Device.NETWORK, number)
    device = f"{nic.model},netdev=net{number},mac={nic.mac}{rom}{index}"
    return [*(["-device", "qemu-xhci"] if usb else []), "-netdev", backend, "-device", device]


def _drives(machine: Machine) -> list[str]:
    argv: list[str] = []
    if machine.cd or machine.cd_url:
        source = _remote(machine.cd_url) if machine.cd_url else f"file={_escaped(machine.cd)}"  # type: ignore[arg-type]
        argv += ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,format=raw,{source}"]
        argv += ["-device", f"ide-cd,drive=cd,bus=ide.0{_boot_index(machine, Device.CD)}"]
    if machine.usb:
        argv += [
            "-device",
            "qemu-xhci",
            "-drive",
            f"if=none,id=usb,format=raw,snapshot=on,file={_escaped(machine.usb)}",
        ]
        argv += ["-device", f"usb-storage,drive=usb{_boot_index(machine, Device.USB)}"]
    if machine.disk:
        kind = "qcow2" if machine.disk.suffix == ".qcow2" else "raw"
        argv += ["-drive", f"if=none,id=disk,format={kind},snapshot=on,file={_escaped(machine.disk)}"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{_boot_index(machine, Device.DISK)}"]
    return argv


def _remote(url: str) -> str:
    # BMCs check no certificate either. A read that takes longer is an error of the drive.
    tls = "file.sslverify=off," if url.startswith("https:") else ""
    return f"file.driver={url.partition(':')[0]},file.url={url},{tls}file.timeout=120"


def _escaped(path: Path) -> str:
    """A path inside an option of QEMU, where a comma ends the value."""
    return str(path).replace(",", ",,")
