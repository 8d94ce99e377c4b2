"""The program for the slots that firmware starts signed images from: on the real disk image, with a directory for the
firmware's variables, and the power cut at every write; tests/boot has it on a host."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision import proc
from provision.media.image_slots import USUAL
from tests.helpers.host_programs import load
from tests.helpers.slot_firmware import Firmware

MIB = 1 << 20
OLD, NEW, NEWER = "0a" * 32, "0b" * 32, "0c" * 32
SMALL = replace(USUAL, slot_room=MIB, config_least=MIB)
IMAGE = b"a signed image" * 100
FACTORY = {
    "running": "a",
    "default": "a",
    "trying": None,
    "tries": 0,
    "failed": None,
    "versions": {"a": OLD, "b": None},
}


class PowerCut(BaseException):
    """The power goes."""


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Firmware:
    (tmp_path / "image").write_bytes(IMAGE)
    return Firmware(tmp_path, tmp_path / "image", OLD, SMALL, monkeypatch)


def test_a_slot_is_written_tried_and_committed_and_the_other_one_after_it(
    firmware: Firmware, capsys: pytest.CaptureFixture[str]
) -> None:
    firmware.call("running")
    firmware.call("state")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a" and json.loads(second) == firmware.state == FACTORY
    for old, new, version in (("a", "b", f"{NEW}:17:1"), ("b", "a", f"{NEWER}:18:1")):
        before = firmware.content(old)
        firmware.call("write", fat := firmware.slot_file(version.encode()), version)
        assert firmware.state["trying"] is None and firmware.state["versions"][new] == version
        assert firmware.content(new).startswith(fat.read_bytes()) and firmware.get("BootNext") is None
        firmware.call("try")
        begun = firmware.state
        assert (begun["trying"], begun["tries"], begun["default"]) == (new, 1, old)
        assert firmware.starts() == new
        tried = firmware.state
        assert (tried["running"], tried["default"], tried["trying"], tried["tries"]) == (new, old, new, 0)
        firmware.call("commit")
        kept = firmware.state
        assert (kept["running"], kept["default"], kept["trying"], kept["failed"]) == (new, new, None, None)
        assert firmware.starts() == new and firmware.content(old) == before, "the proven slot is not touched"
    options = sorted(path.name[:8] for path in firmware.variables.glob("Boot????-*"))
    assert options == ["Boot0000", "Boot00A0", "Boot00A1"]
    fat.write_bytes(firmware.content("b"))
    found = proc.run(["mtype", "-i", fat, "::/EFI/BOOT/BOOTX64.EFI"], package="mtools").stdout
    assert found == f"{NEW}:17:1".encode()


def test_one_that_did_not_prove_itself_is_known_until_the_slot_is_written_again(firmware: Firmware) -> None:
    firmware.call("write", firmware.slot_file(b"new"), f"{NEW}:17:1")
    firmware.call("try")
    assert (firmware.starts(), firmware.starts()) == ("b", "a")
    failed = firmware.state
    assert (failed["running"], failed["trying"], failed["tries"]) == ("a", "b", 0)
    firmware.call("commit")
    assert firmware.state == failed, "what runs is the default already"
    firmware.call("write", firmware.slot_file(b"newer"), f"{NEWER}:18:1")
    assert firmware.state["trying"] is None


def test_a_trial_is_called_off(firmware: Firmware) -> None:
    firmware.call("write", firmware.slot_file(b"new"), f"{NEW}:17:1")
    firmware.call("try")
    firmware.call("commit")
    assert firmware.state == FACTORY | {"versions": {"a": OLD, "b": f"{NEW}:17:1"}} and firmware.starts() == "a"


def test_what_the_host_would_fall_back_to_is_not_written(firmware: Firmware) -> None:
    firmware.call("write", fat := firmware.slot_file(b"new"), f"{NEW}:17:1")
    firmware.call("try")
    firmware.starts()
    before = firmware.path.read_bytes()
    for command in (("write", fat, NEWER), ("try",)):
        with pytest.raises(firmware.program.Refused, match="slot b is on trial"):
            firmware.call(*command)
    assert firmware.path.read_bytes() == before


@pytest.mark.parametrize(
    ("guid", "version"),
    [("", OLD), ("00000000-0000-0000-0000-000000000000", OLD), ("a", NEW), ("b", OLD), ("b", NEW)],
)
def test_variables_that_say_otherwise_change_nothing(firmware: Firmware, guid: str, version: str) -> None:
    """Started from elsewhere, or from another disk with the same partitions: that has another image in the slot."""
    firmware.runs(str(firmware.parts[guid].guid) if guid in ("a", "b") else guid, version)
    before = firmware.path.read_bytes()
    assert firmware.program.running() == "none"
    for command in (("write", firmware.slot_file(b"new"), NEW), ("try",), ("commit",)):
        with pytest.raises(firmware.program.Refused, match="not started from a slot"):
            firmware.call(*command)
    assert firmware.path.read_bytes() == before and firmware.get("BootNext") is None


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("write",), "usage"),
        (("write", "fat", "two words"), "not one word"),
        (("write", "fat", f"{NEW}:17:01"), "zeros before"),
        (("write", "fat", "x" * 96), "up to 95 characters"),
        (("write", "large", NEW), "slot b has room for"),
        (("try",), "slot b is empty"),
    ],
)
def test_what_is_wrong_is_refused(firmware: Firmware, arguments: tuple[str, ...], fact: str) -> None:
    firmware.slot_file(b"new").rename(firmware.directory / "fat")
    with (firmware.directory / "large").open("wb") as file:
        file.truncate(firmware.parts["b"].size)
    before, places = firmware.path.read_bytes(), {name: firmware.directory / name for name in ("fat", "large")}
    with pytest.raises(firmware.program.Refused, match=fact):
        firmware.call(*(places.get(one, one) for one in arguments))
    assert firmware.path.read_bytes() == before and firmware.state == FACTORY


def test_a_slot_that_does_not_hold_what_was_written_is_not_tried(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worn(file: Any) -> None:
        os.pwrite(file.fileno(), b"worn", firmware.parts["b"].first * 512 + 4096)

    monkeypatch.setattr(firmware.program, "flush", worn)
    with pytest.raises(firmware.program.Refused, match="does not hold what was written"):
        firmware.call("write", firmware.slot_file(b"new"), NEW)
    with pytest.raises(firmware.program.Refused, match="slot b is empty"):
        firmware.call("try")


def test_firmware_that_takes_no_variable_leaves_no_trial(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    firmware.call("write", firmware.slot_file(b"new"), NEW)
    write = firmware.program.efivars.write

    def full(name: str, content: bytes) -> None:
        if name == "BootNext":
            raise OSError(28, "No space left on device")
        write(name, content)

    monkeypatch.setattr(firmware.program.efivars, "write", full)
    with pytest.raises(OSError, match="No space"):
        firmware.call("try")
    assert firmware.state == FACTORY | {"versions": {"a": OLD, "b": NEW}}


def test_what_a_guest_writes_to_a_disk_of_its_own_is_not_looked_at(firmware: Firmware) -> None:
    (firmware.directory / "sys/block/sda/device").mkdir(parents=True)
    (firmware.directory / "dev/sda").write_bytes(firmware.path.read_bytes())
    with pytest.raises(firmware.program.Refused, match="sda and vda have slots"):
        _ = firmware.state
    (firmware.directory / "sys/block/vda/vda3").mkdir()
    (firmware.directory / "run/sealed-part").write_text("vda3\n")
    assert firmware.state == FACTORY


Act = Callable[[], None]


def cuts(monkeypatch: pytest.MonkeyPatch, act: Act, restore: Act) -> Iterator[int]:
    """Do it again and again, the power cut at its first write, its second and so on: that one is torn."""
    write, variables = os.pwrite, load("efivars")
    originals = variables.write, variables.remove
    for number in itertools.count():
        restore()
        left = itertools.count(number, -1)

        def torn(descriptor: int, content: bytes, at: int, left: Iterator[int] = left) -> int:
            if next(left) == 0:
                # A sector is whole, or is not there.
                write(descriptor, content[: len(content) // 2 // 512 * 512], at)
                raise PowerCut
            return write(descriptor, content, at)

        def last(change: Callable[..., None], left: Iterator[int] = left) -> Callable[..., None]:
            def changed(*arguments: Any) -> None:
                if next(left) == 0:
                    raise PowerCut
                change(*arguments)

            return changed

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", torn)
            for name, original in zip(("write", "remove"), originals, strict=True):
                patched.setattr(variables, name, last(original))
            try:
                act()
            except PowerCut:
                yield number
                continue
        return


@pytest.mark.parametrize("at", ["write", "try", "commit", "call off"])
def test_a_power_cut_leaves_a_proven_image_that_firmware_finds(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    version, fat = f"{NEW}:17:1", firmware.slot_file(b"new" * 100_000)
    if at != "write":
        firmware.call("write", fat, version)
    if at in ("commit", "call off"):
        firmware.call("try")
    if at == "commit":
        firmware.starts()
    line = firmware.directory / "cmdline"
    disk, variables = firmware.path.read_bytes(), {path: path.read_bytes() for path in firmware.variables.iterdir()}
    variables[line] = line.read_bytes()

    def restore() -> None:
        firmware.path.write_bytes(disk)
        for path in firmware.variables.iterdir():
            path.unlink()
        for path, content in variables.items():
            path.write_bytes(content)

    command = {"write": ("write", fat, version), "try": ("try",)}.get(at, ("commit",))
    proven, done = firmware.content("a"), []
    for number in cuts(monkeypatch, lambda: firmware.call(*command), restore):
        done.append(number)
        # The primary table is whole at any time, and so is the slot that it puts first.
        default = next(iter(firmware.parts))
        assert firmware.content("a") == proven
        if default == "b":
            assert at == "commit" and firmware.content("b").startswith(fat.read_bytes())
        slot = firmware.starts()
        assert slot == default or (at in ("try", "call off") and slot == "b")
        found = firmware.state
        assert found["running"] == slot
        if slot == "b" and found["default"] == "a":
            assert found["trying"] == "b", "nothing runs unproven as if it were proved"
        if slot == "a" and at != "commit":
            assert found["trying"] is None, "a trial that never began has not failed, and is begun again"
        if at == "write":
            assert found["versions"]["b"] is None and found["trying"] is None
        recovers(firmware, slot)
    assert len(done) > 1


def recovers(firmware: Firmware, slot: str) -> None:
    """Whatever was broken off, the next update goes as any other."""
    other = {"a": "b", "b": "a"}[slot]
    if slot == "b":
        firmware.call("commit")
    firmware.call("write", firmware.slot_file(b"newer"), f"{NEWER}:19:1")
    firmware.call("try")
    assert firmware.starts() == other
    firmware.call("commit")
    found = firmware.state
    assert (found["running"], found["default"], found["trying"]) == (other, other, None)
