"""PXELINUX configurations, parsed back as SYSLINUX reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import Invalid
from provision.render import isolinux, pxelinux
from provision.render.target import BootTarget
from tests.helpers.rendering import (
    DENIAL,
    MEDIUM_TARGET,
    ODD_ARGUMENTS,
    SMUGGLED,
    TARGET,
    arguments,
    golden,
    names,
    smuggled,
)

PREAMBLE = [("SERIAL", "0 115200"), ("DEFAULT", "provision"), ("PROMPT", "0"), ("NOESCAPE", "1")]


def parse(text: bytes) -> list[tuple[str, str]]:
    """Every directive and the rest of its line; SYSLINUX ignores case, indentation and lines that begin with #."""
    lines = [line.strip() for line in text.decode("ascii").split("\n")]
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name.upper(), value) for name, _, value in pairs]


def test_golden() -> None:
    golden("pxelinux/boot.cfg", pxelinux.boot_config(TARGET))
    golden("pxelinux/refusal.cfg", pxelinux.refusal([DENIAL]))
    golden("isolinux/boot.cfg", isolinux.boot_config(MEDIUM_TARGET))


@given(names, arguments, st.integers(1, 4))
def test_no_valid_value_adds_a_directive(name: str, words: tuple[str, ...], count: int) -> None:
    initrds = tuple(f"http://10.0.0.1:8080/boot/initrd/{n}" for n in range(count))
    target = BootTarget(name, "http://10.0.0.1:8080/boot/kernel", initrds, "http://10.0.0.1:8080/s/seed.cpio", words)
    label = [
        ("LABEL", "provision"),
        ("LINUX", target.kernel),
        ("INITRD", ",".join((*initrds, "http://10.0.0.1:8080/s/seed.cpio"))),
        *([("APPEND", " ".join(words))] if words else []),
    ]
    say = ("SAY", f"provision: {name} boots from the network.")
    assert parse(pxelinux.boot_config(target)) == [*PREAMBLE, say, *label, ("IPAPPEND", "2")]
    say = ("SAY", f"provision: {name} boots from its own medium.")
    assert parse(isolinux.boot_config(target)) == [*PREAMBLE, say, *label]


@given(st.lists(st.text(max_size=300), max_size=4))
def test_no_text_of_a_refusal_is_more_than_text(lines: list[str]) -> None:
    found = parse(pxelinux.refusal(lines))
    assert found[:3] == [("DEFAULT", "local"), ("PROMPT", "0"), ("NOESCAPE", "1")]
    assert found[-2:] == [("LABEL", "local"), ("LOCALBOOT", "-1")]
    assert {name for name, _ in found[3:-2]} == {"SAY"}
    assert max(len(value) for _, value in found) <= 78


def test_a_refusal_says_the_whole_denial() -> None:
    said = " ".join(value for name, value in parse(pxelinux.refusal([DENIAL])) if name == "SAY")
    assert DENIAL in said


@pytest.mark.parametrize("value", SMUGGLED)
def test_smuggled_values_are_refused(value: str) -> None:
    for target in smuggled(value):
        with pytest.raises(Invalid, match=r"pxelinux/boot\.cfg\.j2: a value holds"):
            pxelinux.boot_config(target)
        with pytest.raises(Invalid, match=r"isolinux/boot\.cfg\.j2: a value holds"):
            isolinux.boot_config(target)


def test_arguments_stand_as_they_are() -> None:
    target = BootTarget("n", "/k", ("/i",), "/s", ODD_ARGUMENTS)
    for text in (pxelinux.boot_config(target), isolinux.boot_config(target)):
        assert ("APPEND", " ".join(ODD_ARGUMENTS)) in parse(text)


def test_a_comma_in_a_path_is_no_further_initrd() -> None:
    with pytest.raises(Invalid, match="a value holds"):
        pxelinux.boot_config(BootTarget("n", "/k", ("/a,/b",), "/s", ()))


def test_the_command_line_counts_what_pxelinux_adds() -> None:
    fits = BootTarget("node7", "/k", ("/i",), "/s", ("x" * 1992,))
    added = " BOOT_IMAGE=/k initrd=/i,/s BOOTIF=01-00-00-00-00-00-00"
    assert len(fits.arguments[0] + added) == 2047
    pxelinux.boot_config(fits)
    with pytest.raises(Invalid, match=r"node7: the kernel command line has 2048 bytes"):
        pxelinux.boot_config(BootTarget("node7", "/k", ("/i",), "/s", ("x" * 1993,)))
