"""The kernel command line of a host."""

from __future__ import annotations

import pytest

from provision.cmdline import LIMIT, command_line
from provision.errors import Invalid
from tests.helpers.rendering import HOSTS, SITE

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


@pytest.mark.parametrize(
    ("base", "own", "where"),
    [
        (["ip=dhcp"], {"site": "ip=off"}, "the --cmdline of its base image and the site's kernel_arguments"),
        (["ip=dhcp"], {"host": "ip=off"}, "the --cmdline of its base image and the host's kernel_arguments"),
        (["ip=a", "ip=b"], {}, "the --cmdline of its base image"),
    ],
)
def test_one_address_configuration_whoever_gives_it(base: list[str], own: dict[str, str], where: str) -> None:
    site = SITE.model_copy(update={"kernel_arguments": (own["site"],) if "site" in own else ()})
    host = HOST.model_copy(update={"kernel_arguments": (own["host"],) if "host" in own else ()})
    with pytest.raises(Invalid, match=f"^node7: the kernel argument ip= is given 2 times, in {where}; keep one of"):
        command_line(base, site, host)


def test_the_remedy_names_the_place() -> None:
    with pytest.raises(Invalid, match=r"; remove it from the --cmdline of its base image$"):
        command_line(["initrd=x"], SITE, HOST)
    long = HOST.model_copy(update={"kernel_arguments": ("x" * LIMIT,)})
    with pytest.raises(Invalid, match=r"; shorten the host's kernel_arguments$"):
        command_line(["ro"], SITE, long)
