"""GRUB configurations, parsed back with a strict reader of the words that they use, and by GRUB's own checker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import Invalid
from provision.media import image_slots
from provision.proc import run
from provision.render import grub
from provision.render.target import BootTarget
from tests.helpers.loaders import grub_words
from tests.helpers.rendering import DENIAL, MEDIUM_TARGET, ODD_ARGUMENTS, SMUGGLED, arguments, golden, names, smuggled

NETWORK_TARGET = BootTarget(
    "node7.example.org", "/kernel", ("/initrd/0", "/initrd/1"), "/seed/0123abcd/seed.cpio", MEDIUM_TARGET.arguments
)


def parse(text: bytes) -> list[list[str]]:
    """Every command as its words; a word that GRUB's script language would expand or split fails the test."""
    return [words for line in text.decode("ascii").split("\n") if (words := grub_words(line))]


def test_golden() -> None:
    golden("grub/network.cfg", grub.network_config(NETWORK_TARGET))
    golden("grub/medium.cfg", grub.medium_config(MEDIUM_TARGET))
    golden("grub/disk.cfg", grub.disk_config(MEDIUM_TARGET))
    golden("grub/refusal.cfg", grub.refusal([DENIAL]))


@given(names, arguments, st.integers(1, 4))
def test_no_valid_value_adds_a_command(name: str, words: tuple[str, ...], count: int) -> None:
    target = BootTarget(name, "/kernel", tuple(f"/initrd/{n}" for n in range(count)), "/seed/ab/seed.cpio", words)
    for text, where in (
        (grub.network_config(target), "the network"),
        (grub.medium_config(target), "its own medium"),
    ):
        assert parse(text) == [
            ["set", "timeout=0"],
            ["echo", f"provision: {name} boots from {where}."],
            ["linux", target.kernel, *(re.sub(r'\\(.)|"', r"\1", word) for word in words)],
            ["initrd", *target.initrds, target.seed],
            ["boot"],
        ]


@given(names, arguments, st.integers(1, 4))
def test_no_valid_value_adds_a_command_to_a_disk(name: str, words: tuple[str, ...], count: int) -> None:
    target = BootTarget(name, "/kernel", tuple(f"/initrd/{n}" for n in range(count)), grub.on_disk(3, 8, 7), words)
    echo, linux, initrd, boot, *ends = grub.disk_config(target).decode("ascii").splitlines()
    assert parse(echo.encode()) == [["echo", f"provision: {name} boots from its own disk."]]
    given = linux.removeprefix("if ").removesuffix(" $slot_arguments; then")
    assert parse(given.encode()) == [["linux", target.kernel, *(re.sub(r'\\(.)|"', r"\1", word) for word in words)]]
    assert initrd == f"  if initrd {' '.join(target.initrds)} ($disk,gpt3)8+7; then"
    assert [boot.strip(), *map(str.strip, ends)] == ["boot", "fi", "fi"]


@given(st.lists(st.text(max_size=300), max_size=4))
def test_no_text_of_a_refusal_is_more_than_text(lines: list[str]) -> None:
    text = grub.refusal(lines)
    said, fixed = text.split(b"sleep 5\n")
    assert fixed == grub.refusal([]).split(b"sleep 5\n")[1]
    commands = parse(said)
    assert {(command[0], len(command)) for command in commands} == {("echo", 2)}
    assert max(len(command[1]) for command in commands) <= 78


def test_a_refusal_says_the_whole_denial() -> None:
    said = grub.refusal([DENIAL]).split(b"sleep 5\n")[0]
    assert DENIAL in " ".join(command[1] for command in parse(said))


@pytest.mark.parametrize("value", SMUGGLED)
def test_smuggled_values_are_refused(value: str) -> None:
    for target in smuggled(value):
        with pytest.raises(Invalid, match=r"grub/network\.cfg\.j2: a value holds"):
            grub.network_config(target)
        with pytest.raises(Invalid, match=r"grub/medium\.cfg\.j2: a value holds"):
            grub.medium_config(target)
        with pytest.raises(Invalid, match=r"grub/disk\.cfg\.j2: a value holds"):
            grub.disk_config(target)


ODD = BootTarget("n", "/k", ("/i",), "/s", ODD_ARGUMENTS)


def test_arguments_stand_in_single_quotes_and_without_the_kernels_own() -> None:
    line = next(line for line in grub.network_config(ODD).decode().splitlines() if line.startswith("linux"))
    plain = "!#$%&()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"
    words = (
        "quiet",
        "'dyndbg=file a.c  +p '",
        "'a b=c d'",
        rf"""'x={plain}\'\''y'\''"z"'""",
        rf"'y={plain} \ it'\''s '",
        "'cpus=1-3;5'",
    )
    assert line == f"linux /k {' '.join(words)}"


@pytest.mark.integration
@pytest.mark.parametrize(
    "text",
    [
        grub.network_config(ODD),
        grub.network_config(NETWORK_TARGET),
        grub.medium_config(MEDIUM_TARGET),
        grub.disk_config(ODD),
        image_slots.LOADER_CONFIG.encode(),
        image_slots.SIGNED_CONFIG.encode(),
        grub.refusal([DENIAL]),
    ],
)
def test_grub_itself_reads_them(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "grub.cfg"
    path.write_bytes(text)
    run(["grub-script-check", path], package="grub-common")
