"""Kernel arguments through each loader's quoting: whatever is accepted arrives, and nothing is refused without need."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from provision.model import KERNEL_ARGUMENT
from provision.render import grub, isolinux, pxelinux
from provision.render.target import BootTarget
from tests.helpers.loaders import (
    grub_command_line,
    grub_words,
    kernel_parameters,
    quoted_by_grub,
    syslinux_append,
    systemd_words,
)
from tests.helpers.rendering import ODD_ARGUMENTS, arguments

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
NEXT = ("next", "last=x")
"""What stands behind an argument, so that one that takes in what follows is found out."""


def target(words: tuple[str, ...]) -> BootTarget:
    return BootTarget("n", "/k", ("/i",), "/s", words)


def line(text: bytes, start: str) -> str:
    return next(line for line in text.decode("ascii").splitlines() if line.strip().startswith(start))


def by_grub(words: tuple[str, ...]) -> list[str]:
    """The command line that each of GRUB's configurations gives a kernel, without its path."""
    lines = [line(config(target(words)), "linux") for config in (grub.network_config, grub.medium_config)]
    found = [grub_words(each) for each in lines]
    assert [words[:2] for words in found] == [["linux", "/k"]] * 2
    return [grub_command_line(words[2:]) for words in found]


def by_syslinux(words: tuple[str, ...]) -> list[str]:
    return [
        syslinux_append(line(config(target(words)), "APPEND"))
        for config in (pxelinux.boot_config, isolinux.boot_config)
    ]


@given(arguments.filter(bool))
@example(ODD_ARGUMENTS)
def test_what_is_accepted_arrives_by_every_loader(words: tuple[str, ...]) -> None:
    written = " ".join(words)
    assert by_syslinux((*words, *NEXT)) == [f"{written} {' '.join(NEXT)}"] * 2, "byte for byte"
    for found in by_grub((*words, *NEXT)):
        assert kernel_parameters(found) == kernel_parameters(f"{written} {' '.join(NEXT)}")
        assert systemd_words(found) == systemd_words(f"{written} {' '.join(NEXT)}")
        assert len(kernel_parameters(found)) == len(systemd_words(found)) == len(words) + len(NEXT)
        assert found == " ".join(map(quoted_by_grub, (*words, *NEXT))), (
            "byte for byte, but for the place of double quotes"
        )


def test_every_printable_character_is_in_one() -> None:
    assert set("".join(ODD_ARGUMENTS)) == set(PRINTABLE)


def arrives(text: str) -> bool:
    """Whether GRUB can be made to pass the text on, so that the kernel and systemd read it as one argument."""
    taken = [re.sub(r"""\\([\\'"])""", r"\1", text), re.sub(r"""\\([\\'"])|["]""", r"\1", text)]
    both = f"{text} {' '.join(NEXT)}"
    if len(kernel_parameters(both)) != 1 + len(NEXT) or len(systemd_words(both)) != 1 + len(NEXT):
        return False
    return any(
        kernel_parameters(grub_command_line([word, *NEXT])) == kernel_parameters(both)
        and systemd_words(grub_command_line([word, *NEXT])) == systemd_words(both)
        for word in taken
    )


@given(st.text(st.sampled_from(r"""ab= "'\\"""), min_size=1, max_size=9))
@example("a=it's")
@example("a\\b")
def test_what_is_accepted_is_what_can_arrive(text: str) -> None:
    if re.fullmatch(KERNEL_ARGUMENT, text):
        assert arrives(text)
    elif re.search(r"""(?<!\\)'|\\(?![\\'"])""", text.replace("\\\\", "")) or (" " not in text and '"' not in text):
        assert not arrives(text)
