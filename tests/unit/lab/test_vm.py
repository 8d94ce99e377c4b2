"""Machines boot from the devices that they are given."""

from __future__ import annotations

from pathlib import Path

from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic, qemu_command


def test_firmware_tries_devices_in_the_machine_s_order_and_no_others(tmp_path: Path) -> None:
    nic = Nic(None, "52:54:00:00:00:01")
    order = (Device.DISK, Device.NETWORK)
    command = qemu_command(
        Machine("m", Firmware.UEFI, nics=(nic,), order=order, cd=Path("/a,b.iso"), disk=Path("/d")),
        tmp_path,
        [None],
        None,
    )
    devices = [command[i + 1] for i, word in enumerate(command) if word == "-device"]
    assert "virtio-blk-pci,drive=disk,bootindex=1" in devices
    assert "virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=,bootindex=11" in devices
    assert "ide-cd,drive=cd,bus=ide.0" in devices
    assert any("file=/a,,b.iso" in word for word in command)


def test_a_cd_is_read_from_a_url_whoever_has_signed_its_server(tmp_path: Path) -> None:
    for url, tls in (("https://192.0.2.1/b/x.iso", ",file.sslverify=off"), ("http://192.0.2.1/b/x.iso", "")):
        command = qemu_command(Machine("m", order=(Device.CD,), cd_url=url), tmp_path, [], None)
        (drive,) = [word for word in command if "media=cdrom" in word]
        assert f"file.driver={url.partition(':')[0]},file.url={url}{tls}," in drive and "readonly=on" in drive


def test_firmware_is_told_whom_it_trusts(tmp_path: Path) -> None:
    machine = Machine("m", Firmware.UEFI, http_boot=True, trusted=Path("/ca,1.esl"))
    command = qemu_command(machine, tmp_path, [], tmp_path / "variables")
    assert "name=etc/edk2/https/cacerts,file=/ca,,1.esl" in command


def test_what_a_tpm_was_told_is_counted(tmp_path: Path) -> None:
    lab = Lab("lab", tmp_path)
    lab.directory = tmp_path
    vm = VM(lab, Machine("one", tpm=True))
    vm.directory.mkdir()
    read, answer = " SWTPM_IO_Read: length 16\n", " SWTPM_IO_Write: length 10\n 80 01 00 00 00 0A 00 00 01 56 \n"
    load, import_ = (f"{read} 80 02 00 00 00 1B 00 00 01 {code} 00 00 \n 00 00 \n" for code in ("57", "56"))
    vm.tpm_file.write_text(load + answer + import_ + answer + load)
    assert (vm.told_its_tpm(0x156), vm.told_its_tpm(0x157), vm.told_its_tpm(0x120)) == (1, 2, 0)
