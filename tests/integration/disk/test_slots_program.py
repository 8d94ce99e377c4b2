"""The program for the slots of a host's disk: what it remembers, refuses and writes; tests/boot has it on a host."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.media import gpt as media_gpt
from provision.media import image_slots
from provision.render import grub
from provision.render.target import BootTarget
from provision.slots import parse
from tests.helpers.host_programs import load
from tests.helpers.rendering import ODD_ARGUMENTS

MIB = 1 << 20
Program = Callable[..., str]


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, on a file for a disk, directories for its slots, and no mounting."""
    load("gpt"), load("grubenv")
    program, own_disk = load("slots"), load("own_disk")
    sizes = image_slots.Sizes(esp=2 * MIB, config_least=2 * MIB, slot_room=2 * MIB, data=2 * MIB)
    table = image_slots.table(lambda name: UUID(int=len(name)), MIB, MIB, sizes)
    disk = tmp_path / "vda"
    with disk.open("wb") as file:
        file.truncate(table.partitions[-1].offset + table.partitions[-1].size + MIB)
    media_gpt.write_table(disk, table)
    with disk.open("r+b") as written:
        written.seek(table.partitions[1].offset + 7 * 512)
        written.write(image_slots.environment())
    for number in (image_slots.SLOT_A, image_slots.SLOT_B):
        (tmp_path / f"vda{number}").touch()
        (tmp_path / f"sys/block/vda/vda{number}").mkdir(parents=True)
        (tmp_path / f"sys/block/vda/vda{number}/partition").write_text(f"{number}\n")
    (tmp_path / "sys/block/vda/device").mkdir()

    @contextmanager
    def mounted(device: str, how: str) -> Iterator[Path]:
        root = Path(f"{device}.files")
        if not root.exists():
            raise program.Refused("mount: wrong fs type")
        yield root

    def made(device: str, slot: str) -> None:
        Path(f"{device}.files").mkdir()

    monkeypatch.setattr(program, "_mounted", mounted)
    monkeypatch.setattr(program, "_make", made)
    monkeypatch.setattr(program, "_flush", lambda device: None)
    monkeypatch.setattr(own_disk, "DEV", str(tmp_path))
    monkeypatch.setattr(own_disk, "SYS", str(tmp_path / "sys"))
    monkeypatch.setattr(program, "CMDLINE", tmp_path / "cmdline")
    made(f"{tmp_path}/vda{image_slots.SLOT_A}", "a")
    (tmp_path / f"vda{image_slots.SLOT_A}.files/boot").mkdir()
    (tmp_path / f"vda{image_slots.SLOT_A}.files/boot/version").write_text("factory\n")
    runs_on(tmp_path, "a")
    return program


def runs_on(directory: Path, slot: str) -> None:
    (directory / "cmdline").write_text(f"quiet panic=10 provision.slot={slot}\n" if slot else "quiet\n")


@pytest.fixture
def call(slots: ModuleType, capsys: pytest.CaptureFixture[str]) -> Program:
    def call(*arguments: str | Path) -> str:
        slots.main(list(map(str, arguments)))
        return capsys.readouterr().out.strip()

    return call


def files(directory: Path, line: str = "quiet root=/dev/ram0\n") -> tuple[Path, Path, Path]:
    found = directory / "kernel", directory / "initrd", directory / "arguments"
    for path, content in zip(found, (b"a kernel", b"an initrd", line.encode()), strict=True):
        path.write_bytes(content)
    return found


def state(call: Program) -> dict[str, object]:
    found: dict[str, object] = json.loads(call("state"))
    return found


FACTORY = {
    "running": "a",
    "default": "a",
    "trying": None,
    "tries": 0,
    "failed": None,
    "versions": {"a": "factory", "b": None},
}


def test_a_slot_is_written_tried_and_committed(call: Program, tmp_path: Path) -> None:
    assert call("running") == "a" and state(call) == FACTORY
    call("write", *files(tmp_path), "v2")
    written = FACTORY | {"versions": {"a": "factory", "b": "v2"}}
    assert state(call) == written
    boot = tmp_path / f"vda{image_slots.SLOT_B}.files/boot"
    assert (boot / "vmlinuz").read_bytes() == b"a kernel" and (boot / "initrd0.img").read_bytes() == b"an initrd"
    assert (boot / "arguments").read_text() == "quiet root=/dev/ram0\n"
    call("try")
    assert state(call) == written | {"trying": "b", "tries": 1}
    runs_on(tmp_path, "b")
    assert call("running") == "b"
    call("commit")
    assert state(call) == written | {"running": "b", "default": "b"}


def test_a_trial_that_failed_is_known_until_the_slot_is_written_again(
    slots: ModuleType, call: Program, tmp_path: Path
) -> None:
    call("write", *files(tmp_path), "v2")
    with slots.own(slots.CHANGE) as disk:
        disk.remember(failed="b")
    call("commit")
    assert state(call)["failed"] == "b", "the running slot is another one"
    (tmp_path / f"vda{image_slots.SLOT_B}.files").rename(tmp_path / "old")
    call("write", *files(tmp_path))
    found = state(call)
    assert found["failed"] is None and len(found["versions"]["b"]) == 64  # type: ignore[index]


def test_what_the_host_would_fall_back_to_is_not_written(slots: ModuleType, call: Program, tmp_path: Path) -> None:
    call("write", *files(tmp_path), "v2")
    call("try")
    runs_on(tmp_path, "b")
    for command in (("write", *files(tmp_path)), ("try",)):
        with pytest.raises(slots.Refused, match="slot b is on trial"):
            call(*command)
    call("commit")
    with pytest.raises(FileExistsError):
        call("write", *files(tmp_path)), "the other slot may be written then"


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("write",), "usage"),
        (("erase",), "usage"),
        (("write", "kernel", "initrd", "arguments", "two words"), "not one word"),
        (("write", "kernel", "initrd", "several"), "not one line"),
        (("try",), "slot b is empty"),
    ],
)
def test_what_is_wrong_is_refused(
    slots: ModuleType, call: Program, tmp_path: Path, arguments: tuple[str, ...], fact: str
) -> None:
    files(tmp_path)
    (tmp_path / "several").write_text("quiet\nboot\n")
    with pytest.raises(slots.Refused, match=fact):
        call(*(str(tmp_path / one) if (tmp_path / one).exists() else one for one in arguments))
    assert state(call) == FACTORY


def test_a_host_that_came_from_elsewhere_changes_nothing(slots: ModuleType, call: Program, tmp_path: Path) -> None:
    runs_on(tmp_path, "")
    assert call("running") == "none"
    for command in (("write", *files(tmp_path)), ("try",), ("commit",)):
        with pytest.raises(slots.Refused, match="not booted from a slot"):
            call(*command)


def test_a_disk_without_its_parts_is_none(slots: ModuleType, call: Program, tmp_path: Path) -> None:
    content = (tmp_path / "vda").read_bytes()
    (tmp_path / "vda").write_bytes(content.replace(b"# GRUB Environment", b"# GROB Environment"))
    with pytest.raises(slots.Refused, match="vda has no environment block"):
        call("state")
    (tmp_path / "vda").write_bytes(content)
    (tmp_path / "sys/block/vdb/device").mkdir(parents=True)
    (tmp_path / "vdb").write_bytes(content)
    with pytest.raises(slots.Refused, match="vda and vdb have slots"):
        call("state")
    (tmp_path / "vda").write_bytes(bytes(MIB))
    (tmp_path / "vdb").unlink()
    with pytest.raises(slots.Refused, match="no disk has two slots"):
        call("state")


def test_the_kernel_is_told_the_same_as_by_the_server(slots: ModuleType) -> None:
    of = BootTarget("node1", "/boot/vmlinuz", ("/boot/initrd0.img",), None, ODD_ARGUMENTS)
    expected = grub.disk_config(of).decode().split("\n", 1)[1]
    assert slots.configuration(" ".join(ODD_ARGUMENTS) + "\n") == expected


def test_what_a_guest_writes_to_a_disk_of_its_own_is_not_looked_at(
    slots: ModuleType, call: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The initramfs knows which disk has the host's identity."""
    (tmp_path / "sys/block/sda/device").mkdir(parents=True)
    (tmp_path / "sda").write_bytes((tmp_path / "vda").read_bytes())
    with pytest.raises(slots.Refused, match="sda and vda have slots"):
        call("state")
    monkeypatch.setattr(load("own_disk"), "WORK", tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/disk").write_text("vda\n")
    assert state(call) == FACTORY
    call("write", *files(tmp_path), "v2")
    call("try")
    assert (tmp_path / "sda").read_bytes() != (tmp_path / "vda").read_bytes()
    (tmp_path / "run/disk").write_text("vdb\n")
    with pytest.raises(slots.Refused, match="no disk has two slots"):
        call("state")


_PIECES = st.one_of(
    st.sampled_from(("slot=", "try=", "tries=", "failed=", "a", "b", "x", "\n", '"', "\\", "=", "\0")),
    st.text(max_size=5),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(_PIECES, max_size=40).map("".join))
def test_whatever_stands_in_the_environment_block_is_said_as_the_server_takes_it(
    slots: ModuleType, call: Program, tmp_path: Path, text: str
) -> None:
    """Else the server would take no message of the host any more, and the host no order."""
    with slots.own(slots.CHANGE) as disk:
        block = b"# GRUB Environment Block\n" + text.encode("utf-8", "replace")
        sector = slots.grubenv.find(disk.file, slots.gpt.read(disk.file).find(slots.gpt.ESP))
        os.pwrite(disk.file.fileno(), block[:512].ljust(512, b"#"), sector * 512)
    said = state(call)
    assert said["default"] in ("a", "b") and said["trying"] in ("a", "b", None) and said["failed"] in ("a", "b", None)
    assert said["tries"] in range(10) and (said["trying"] or not said["tries"])
    report = load("slot_report")
    versions = {"a": report.Version("0a" * 32), "b": report.Version()}
    found = report.Slots("a", *(said[name] for name in ("default", "trying", "tries", "failed")), versions)
    report.say(found, "idle", tmp_path / "said")
    assert parse((tmp_path / "said").read_text()) is not None
    call("commit")
    assert state(call)["default"] == "a" and state(call)["trying"] is None
