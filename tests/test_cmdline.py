"""The kernel command line of a host."""

from __future__ import annotations

import pytest

from provision.cmdline import LIMIT, command_line
from provision.errors import Invalid
from tests.rendering import HOSTS, SITE

HOST = HOSTS["dhcp"]


def test_the_host_comes_last_so_that_it_wins() -> None:
    site = SITE.model_copy(update={"kernel_arguments": ("console=tty0",)})
    host = HOST.model_copy(update={"kernel_arguments": ("console=ttyS1",)})
    assert command_line(["ro"], site, host) == ("ro", "console=tty0", "console=ttyS1")


@pytest.mark.parametrize("word", ["initrd=/x", "BOOT_IMAGE=/x", "BOOTIF=01"])
def test_a_word_of_the_boot_loader_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match=r"node7: the kernel argument \w+= belongs to the boot loader"):
        command_line([], SITE, HOST.model_copy(update={"kernel_arguments": (word,)}))


def test_the_length_is_limited() -> None:
    assert len(command_line(["x" * LIMIT], SITE, HOST)[0]) == 1535
    with pytest.raises(Invalid, match="node7: the kernel arguments have 1536 bytes, and 1535 fit"):
        command_line(["x" * LIMIT + "x"], SITE, HOST)
