"""The kernel command line of a host."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from provision.cmdline import LIMIT, command_line, split
from provision.errors import Invalid
from provision.model import KernelArgument
from tests.helpers.rendering import HOSTS, NO_ARGUMENT, ODD_ARGUMENTS, SITE

HOST = HOSTS["dhcp"]


def test_the_host_comes_last_so_that_it_wins() -> None:
    site = SITE.model_copy(update={"kernel_arguments": ("console=tty0",)})
    host = HOST.model_copy(update={"kernel_arguments": ("console=ttyS1",)})
    assert command_line(["ro"], site, host) == ("ro", "console=tty0", "console=ttyS1")


@pytest.mark.parametrize("word", ["initrd=/x", "BOOT_IMAGE=/x", "BOOTIF=01"])
def test_a_word_of_the_boot_loader_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match=r"node7: the kernel argument \w+= belongs to the boot loader"):
        command_line([], SITE, HOST.model_copy(update={"kernel_arguments": (word,)}))


@pytest.mark.parametrize("argument", ['x="a initrd=/b"', '"BootIf=1 x"', "-", "--", '"--"'])
def test_a_word_of_the_boot_loader_within_quotes_and_the_end_of_arguments_are_refused(argument: str) -> None:
    with pytest.raises(Invalid, match=r"node7: the kernel argument .* belongs to the boot loader"):
        command_line([], SITE, HOST.model_copy(update={"kernel_arguments": (argument,)}))


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ()),
        ("  quiet\tro ", ("quiet", "ro")),
        ('a="b c" "d e=f" g', ('a="b c"', '"d e=f"', "g")),
        ('a="b c', ('a="b c',)),
    ],
)
def test_a_command_line_is_split_as_the_kernel_does(text: str, arguments: tuple[str, ...]) -> None:
    assert split(text) == arguments


@pytest.mark.parametrize("argument", ODD_ARGUMENTS)
def test_arguments_that_every_loader_passes_on(argument: str) -> None:
    assert TypeAdapter(KernelArgument).validate_python(argument) == argument


@pytest.mark.parametrize("argument", [*NO_ARGUMENT, 'a="b"c', 'a=b"c"', 'a=b="c"', '""', "a\\x41", 'a="b', "a=b\n"])
def test_arguments_that_some_loader_or_the_kernel_would_change(argument: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(KernelArgument).validate_python(argument)


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
