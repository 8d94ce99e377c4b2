"""Waiting for disks: looked for as soon as the kernel tells of a device, and seldom in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.initramfs import SCRIPTS, run

LOOK = 'look() { echo look >>"$dir/looks"; [ -e "$dir/disk" ]; }'


@pytest.fixture
def setting(tmp_path: Path) -> str:
    """Commands that make the functions work on a directory that stands for /sys, with no disk in it."""
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/uevent_seqnum").write_text("7\n")
    script = (SCRIPTS / "stored").read_text()
    for other in ("disks", "table", "identity"):
        script = script.replace(f". /{other}", f". {SCRIPTS}/{other}")
    (tmp_path / "stored").write_text(script)
    return f". {tmp_path}/stored; dir={tmp_path}; sys=$dir/sys; disks() {{ :; }}; load_found_drivers() {{ :; }}; {LOOK}"


def looks(directory: Path) -> int:
    return len((directory / "looks").read_text().splitlines())


def test_nothing_is_looked_at_in_vain(tmp_path: Path, setting: str) -> None:
    assert run(tmp_path, f"{setting}; patience=150; wait_for_disks look || echo gave up") == "gave up\n"
    # At the beginning, and each ten rounds that last a tenth of a second or more.
    assert looks(tmp_path) <= 2


def test_what_the_kernel_tells_of_is_looked_at_at_once(tmp_path: Path, setting: str) -> None:
    """It turns up while the first look goes on, and neither is missed nor waited for."""
    turns_up = 'look() { echo look >>"$dir/looks"; [ -e "$dir/disk" ] || { : >"$dir/disk"; echo 8 >"$told"; false; }; }'
    told = "told=$dir/sys/kernel/uevent_seqnum"
    assert (
        run(tmp_path, f"{setting}; {told}; {turns_up}; patience=9000; wait_for_disks look && echo found") == "found\n"
    )
    assert looks(tmp_path) == 2


def test_a_kernel_that_tells_nothing_is_not_believed_for_long(tmp_path: Path, setting: str) -> None:
    later = 'look() { echo look >>"$dir/looks"; [ -e "$dir/disk" ] || { : >"$dir/disk"; false; }; }'
    assert run(tmp_path, f"{setting}; {later}; patience=9000; wait_for_disks look && echo found") == "found\n"
    assert looks(tmp_path) == 2
