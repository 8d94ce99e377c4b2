"""A host without a disk keeps the key of its envelope in its TPM, and opens it again at its next start; booted by
somebody who has the same signed programs, and one file of his own, it opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision import cpio, proc
from provision.demo.site import GUEST, MAC, TOKEN_PATH, DemoSite, foreign_dhcp
from provision.lab.lans import Lab
from provision.lab.processes import MOST_SECONDS, Process
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.boot.test_wrapped import OURS, SETTINGS, enroll
from tests.helpers.small_image import small_image

PATIENCE = 500.0
"""Seconds of silence: the image is read and unpacked in them."""
DISKLESS = OURS.replace("    tpm: online\n", "    storage: none\n")
IMPORT, EVICT = 0x156, 0x120
LOADERS = ("shimx64.efi", "grubx64.efi")
GRUB = "grub/grub.cfg"


class Diskless(DemoSite):
    """The site on a general LAN, and its host's machine, whose TPM is known."""

    def __init__(self, lab: Lab, scratch: Path) -> None:
        self.lan = lab.lan("guest", GUEST)
        super().__init__(lab, DISKLESS, SETTINGS)
        self.fill(small_image())
        nics = (Nic(self.lan, MAC),)
        self.vm = VM(lab, Machine("diskless", Firmware.SECURE_BOOT, nics, (Device.NETWORK,), 1024, tpm=True))
        enroll(self, self.vm, scratch)
        self.service = self.serve()
        foreign_dhcp(lab, self.lan)
        self._thief = self.lan.host("thief", "10.77.2.99/24", mac=MAC)
        self._thief_is("down")

    def hears(self, count: int) -> list[str]:
        """What came of the envelopes, as soon as the host has said so often."""

        def said() -> list[str]:
            entries = self.json("audit", "--limit", "500")
            return [str(entry["answer"]) for entry in entries if entry["event"] == "envelope-opened"]

        self.vm.wait_until(lambda: len(said()) >= count, f"say {count} times what came of its envelope", PATIENCE)
        return said()

    def files(self, directory: Path) -> Path:
        """What boot loaders get for the host's MAC, as anybody on its LAN gets it while the host is off."""
        self._thief_is("up")

        def get(path: str) -> bytes:
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            url = f"tftp://{self.lan.address}/{path}"
            argv: list[str | Path] = [
                "ip",
                "netns",
                "exec",
                self._thief,
                "curl",
                "-sSf",
                "--tftp-blksize",
                "1400",
                "-o",
                target,
                url,
            ]
            proc.run(argv, package="curl", timeout=120)
            return target.read_bytes()

        for path in LOADERS:
            get(path)
        for line in re.findall(r"(?m)^(?:linux|initrd) (.*)$", get(GRUB).decode()):
            for word in line.split():
                if word.startswith("/") and not (directory / word[1:]).exists():
                    get(word[1:])
        self._thief_is("down")
        return directory

    def _thief_is(self, state: str) -> None:
        proc.run(["ip", "-n", self._thief, "link", "set", "eth0", state], package="iproute2")

    @contextmanager
    def somebody_else(self, files: Path) -> Iterator[Process]:
        """Have the firmware and its boot loader be served these, at the server's own address; what they start finds the
        server again."""
        self.service.stop()
        there = self.lan.interface
        rogue = self.lab.dnsmasq(
            f"port=0\nbind-interfaces\ninterface={there}\nexcept-interface=lo\nenable-tftp\ntftp-root={files}\n"
        )
        try:
            yield rogue
        finally:
            rogue.stop()
            self.service = self.serve()


def opens_its_envelope(site: Diskless, number: int) -> None:
    with site.vm as vm:
        vm.wait_for(rf"^ +credential +{TOKEN_PATH}", PATIENCE)
        assert site.hears(number) == ["opened"] * number


def another_initrd(files: Path) -> None:
    """What is behind the last archive is one archive more."""
    (path,) = re.findall(r"(?m)^initrd /(\S+)", (files / GRUB).read_text())
    with (files / path).open("ab") as file:
        file.write(cpio.pack((cpio.file("of-somebody-else", b"his", 0o644),)))


def last_initrd(files: Path) -> str:
    """The file that GRUB reads last."""
    (names,) = re.findall(r"(?m)^initrd (.*)$", (files / GRUB).read_text())
    return str(names.split("/")[-1])


def another_word(files: Path) -> None:
    text = (files / GRUB).read_text()
    (files / GRUB).write_text(re.sub(r"(?m)^(linux .*)$", r"\1 of_somebody_else", text))


def opens_nothing(site: Diskless, files: Path, same: list[tuple[int, bool]]) -> None:
    """All is the same but what he has changed, so it is that which keeps the envelope closed."""
    before = site.hears(0)
    with site.vm as vm:
        with site.somebody_else(files) as rogue:
            rogue.wait_for(rf"sent {files}/\S*{last_initrd(files)} to", MOST_SECONDS)
        vm.wait_for(r"provision-secrets: this host did not get its credentials:", PATIENCE)
        vm.wait_for(r"no approved boot chain is the one that was booted \(PCR 4\+8\+9", PATIENCE)
        assert site.hears(len(before) + 1) == [*before, "chain"]
        assert TOKEN_PATH not in vm.console
    [status] = site.json("status", "node1")["hosts"]
    assert any("has booted in no chain that the site has approved" in alert["text"] for alert in status["alerts"])
    [network] = site.json("tpm", "explain", "node1")["networks"]
    assert [(pcr["pcr"], pcr["same"]) for pcr in network["chains"][0]["pcrs"]] == same


@pytest.mark.long
def test_the_key_stays_in_the_tpm_and_opens_in_the_server_s_boot_chain_alone(lab: Lab, tmp_path: Path) -> None:
    site = Diskless(lab, tmp_path / "tpm")
    opens_its_envelope(site, 1)
    assert (site.vm.told_its_tpm(IMPORT), site.vm.told_its_tpm(EVICT)) == (1, 1)
    with site.lan.capture() as wire:
        opens_its_envelope(site, 2)
    assert (site.vm.told_its_tpm(IMPORT), site.vm.told_its_tpm(EVICT)) == (0, 0), "it has the key"
    assert wire.contains(b"provision-envelope 1\n"), "and the rest comes from the server"
    for change, same in (
        (another_initrd, [(4, True), (8, True), (9, False)]),
        (another_word, [(4, True), (8, False), (9, False)]),
    ):
        files = site.files(tmp_path / change.__name__)
        change(files)
        opens_nothing(site, files, same)
