"""PCRs 8 and 9 from the files that GRUB reads; a boot of the real one proves them in tests/boot."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Address

import pytest

from provision.errors import Invalid
from provision.render import grub
from provision.render.target import BootTarget
from provision.tpm import grub_chain
from provision.tpm.event_log import Event
from provision.tpm.grub_chain import Programs

SERVER = IPv4Address("10.1.0.1")
PROGRAMS = Programs(b"s" * 32, b"g" * 32, b"k" * 32)
TARGET = BootTarget(
    "node1", "/boot/a/kernel", ("/boot/a/initrd/0",), "/boot/seed/r/seed.cpio", ("console=ttyS0", "quiet")
)
FILES = {path: sha256(path.encode()).digest() for path in (TARGET.kernel, *TARGET.all_initrds)}


def measured(target: BootTarget = TARGET) -> list[tuple[int, str]]:
    config = grub.network_config(target)
    return [(one.pcr, one.data.decode()) for one in grub_chain.events(SERVER, config, PROGRAMS, FILES) if one.pcr != 4]


def test_commands_and_files_come_in_the_order_in_which_grub_takes_them() -> None:
    assert measured() == [
        (8, "grub_cmd: [ -e (tftp,10.1.0.1)/grub/x86_64-efi/grub.cfg ]"),
        (8, "grub_cmd: source (tftp,10.1.0.1)/grub/grub.cfg"),
        (9, "grub.cfg"),
        (8, "grub_cmd: set timeout=0"),
        (8, "grub_cmd: echo provision: node1 boots from the network."),
        (8, "grub_cmd: linux /boot/a/kernel console=ttyS0 quiet"),
        (9, "/boot/a/kernel"),
        (8, "kernel_cmdline: /boot/a/kernel console=ttyS0 quiet"),
        (8, "grub_cmd: initrd /boot/a/initrd/0 /boot/seed/r/seed.cpio"),
        (9, "/boot/a/initrd/0"),
        (9, "/boot/seed/r/seed.cpio"),
        (8, "grub_cmd: boot"),
    ]


def test_digests_are_of_the_text_alone_and_of_whole_files() -> None:
    config = grub.network_config(TARGET)
    found: list[Event] = list(grub_chain.events(SERVER, config, PROGRAMS, FILES))
    by_text = {one.data: one.digest for one in found}
    assert by_text[b"grub_cmd: set timeout=0"] == sha256(b"set timeout=0").digest()
    assert by_text[b"grub.cfg"] == sha256(config).digest()
    assert by_text[b"/boot/seed/r/seed.cpio"] == FILES["/boot/seed/r/seed.cpio"]
    line = b"/boot/a/kernel console=ttyS0 quiet"
    assert by_text[b"kernel_cmdline: " + line] == sha256(line).digest()
    kernel, again = [one.digest for one in found if one.pcr == 4][-2:]
    assert kernel == again == PROGRAMS.kernel


def test_quotes_are_as_grub_takes_and_gives_them() -> None:
    arguments = ('dyndbg="file a +p"', "a=b;c", "d=e|f")
    texts = [text for _, text in measured(replace(TARGET, arguments=arguments))]
    assert "grub_cmd: linux /boot/a/kernel dyndbg=file a +p a=b;c d=e|f" in texts
    assert 'kernel_cmdline: /boot/a/kernel "dyndbg=file a +p" a=b;c d=e|f' in texts


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("set root=$prefix", "depend on more than its text"),
        ('echo "$net_default_ip"', "depend on more than its text"),
        ("if true; then boot; fi", "depend on more than its text"),
        ("boot # now", "depend on more than its text"),
        ("", "depend on more than its text"),
        ("configfile /other.cfg", "'configfile', whose measurements are not known"),
        ("initrd /other", "names /other, whose hash is not known"),
    ],
)
def test_what_cannot_be_computed_is_refused(line: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        grub_chain.events(SERVER, f"set timeout=0\n{line}\nboot\n".encode(), PROGRAMS, FILES)
