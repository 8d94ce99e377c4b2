"""The host's program for updates, against a server in the same process, stand-ins for the slots and for the rest of
the machine."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.host import Reboot
from provision.slots import parse
from provision.update import SlotFile, UpdateFile
from tests.helpers.slotted_disk import OLD, Disk
from tests.helpers.update_programs import DESCRIPTION, INITRDS, KERNEL, KEY, NEW, PROGRAM, REPORT, Server, Taking


def test_an_update_goes_to_the_other_slot_and_is_tried(disk: Disk, machine: list[str], take: Taking) -> None:
    assert take(Server()) == [f"fetching {NEW}", f"rebooting {NEW}"]
    assert disk.content == {"b": (KERNEL, b"".join(INITRDS), b"console=ttyS0 quiet\n")}
    assert (disk.versions, disk.trying, disk.default) == ({"a": OLD, "b": f"{NEW}:17:1"}, "b", "a")
    assert machine == ["systemctl reboot"]


SLOT = os.urandom(2500)
SIGNED = {"content": SlotFile(UpdateFile(len(SLOT), hashlib.sha256(SLOT).hexdigest()))}


def test_what_firmware_starts_is_one_file(
    disk: Disk, machine: list[str], take: Taking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server()
    server.files, server.fields, server.breaks = {"slot": SLOT}, dict(SIGNED), 1
    monkeypatch.setattr(REPORT, "is_unified", lambda: True)
    with pytest.raises(DESCRIPTION.Refused, match="does not answer"):
        take(server)
    assert (tmp_path / "update/slot").read_bytes() == SLOT[:1000] and "write" not in disk.done
    server.breaks, server.files = 10**9, {"slot": SLOT[:-1]}
    with pytest.raises(DESCRIPTION.Refused, match="has less of slot than it says"):
        take(server)
    server.files = {"slot": SLOT[:-1] + bytes([SLOT[-1] ^ 1])}
    with pytest.raises(DESCRIPTION.Refused, match="what came as slot is not what the site has signed"):
        take(server)
    assert "write" not in disk.done
    server.files = {"slot": SLOT}
    assert take(server) == [f"fetching {NEW}", f"rebooting {NEW}"]
    assert disk.content == {"b": (SLOT,)} and disk.versions["b"] == f"{NEW}:17:1"
    assert list((tmp_path / "update").iterdir()) == []


@pytest.mark.parametrize("unified", [True, False])
def test_what_other_slots_have_is_not_written(
    disk: Disk, take: Taking, monkeypatch: pytest.MonkeyPatch, unified: bool
) -> None:
    server = Server()
    server.fields = {} if unified else dict(SIGNED)
    monkeypatch.setattr(REPORT, "is_unified", lambda: unified)
    with pytest.raises(DESCRIPTION.Refused, match="for hosts that boot in another way"):
        take(server)
    assert "write" not in disk.done


def test_the_kernel_is_told_that_the_image_is_a_signed_one(tmp_path: Path) -> None:
    for line, expected in (("panic=10 provision.image=0a\n", True), ("provision.slot=a xprovision.image=0a\n", False)):
        (tmp_path / "cmdline").write_text(line)
        assert REPORT.is_unified(tmp_path / "cmdline") is expected


def test_it_goes_on_where_it_was_broken_off(disk: Disk, take: Taking, tmp_path: Path) -> None:
    server = Server()
    server.breaks = 2
    with pytest.raises(DESCRIPTION.Refused, match="does not answer"):
        take(server)
    assert (tmp_path / "update/kernel").read_bytes() == KERNEL[:2000] and "write" not in disk.done
    server.breaks = 10**9
    take(server)
    assert server.parts == 3 + 1 + 2 + 1 and disk.content["b"][1] == b"".join(INITRDS)
    assert list((tmp_path / "update").iterdir()) == [], "nothing is left in memory"


def test_what_was_fetched_of_another_image_is_of_no_use(disk: Disk, take: Taking) -> None:
    server = Server()
    server.breaks = 2
    with pytest.raises(DESCRIPTION.Refused):
        take(server)
    server.breaks, server.fields["version"] = 10**9, "0c" * 32
    take(server)
    assert disk.content["b"][0] == KERNEL


@pytest.mark.parametrize("name", ["kernel", "initrd/0", "initrd/1"])
def test_a_changed_byte_is_never_written(disk: Disk, take: Taking, name: str) -> None:
    server = Server()
    server.files[name] = server.files[name][:-1] + bytes([server.files[name][-1] ^ 1])
    with pytest.raises(DESCRIPTION.Refused, match=f"what came as {name} is not what the site has signed"):
        take(server)
    assert "write" not in disk.done
    server.files[name] = server.files[name][:100]
    with pytest.raises(DESCRIPTION.Refused, match=f"has less of {name}"):
        take(server)
    assert "write" not in disk.done


def test_what_is_behind_the_last_initrd_is_never_written(disk: Disk, take: Taking, tmp_path: Path) -> None:
    """Who had the data partition left it there; it would be unpacked as one initrd more."""
    server = Server()
    for name, content in (("initrd", b"".join(INITRDS) + b"070701"), ("kernel", KERNEL + b"x")):
        (tmp_path / "update").mkdir(mode=0o700, exist_ok=True)
        (tmp_path / "update/version").write_text(NEW)
        (tmp_path / "update" / name).write_bytes(content)
        with pytest.raises(DESCRIPTION.Refused, match="is not what the site has signed"):
            take(server)
        assert "write" not in disk.done and not (tmp_path / "update" / name).exists()
    take(server)
    assert disk.content["b"][:2] == (KERNEL, b"".join(INITRDS))


def test_who_waits_for_a_turn_asks_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand hosts that ask every two seconds are all that a server has time for."""
    server = PROGRAM.Server({"host": "node7", "alive": {"url": "http://[::1]:9/", "boot": "b", "key": "00"}}, "run")
    clock, asked = [0.0], list[float]()

    def busy(*_: object) -> bytes:
        asked.append(clock[0])
        raise OSError("others are served first")

    monkeypatch.setattr(server, "ask", busy)
    monkeypatch.setattr(PROGRAM.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(PROGRAM.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(DESCRIPTION.Refused, match="others are served first"):
        server.patiently("/update/part", "part", 1)
    assert 3600 / 90 < len(asked) < 3600 / 30, asked
    assert max(after - before for before, after in itertools.pairwise(asked)) <= 90


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"host": "node8"}, "another host's"),
        ({"site": "other.test"}, "another host's"),
        ({"nonce": "00" * 16}, "made for an earlier request"),
        ({"sequence": 16}, "older than one that this host has taken"),
        ({"version": "0c" * 32, "attempt": 1}, "has failed on this host"),
    ],
)
def test_what_is_not_for_this_host_now_is_not_written(disk: Disk, take: Taking, fields: Any, why: str) -> None:
    disk.versions |= {"b": f"{'0c' * 32}:17:1"}
    disk.failed = "b"
    server = Server()
    server.fields = fields
    with pytest.raises(DESCRIPTION.Refused, match=why):
        take(server)
    assert "write" not in disk.done
    server.fields = {"version": "0c" * 32, "attempt": 2}
    take(server)
    assert disk.done[-1] == "state" and "write" in disk.done


def test_keys_of_the_signed_image_count_before_those_of_the_order(disk: Disk, take: Taking, tmp_path: Path) -> None:
    server, other = Server(), Ed25519PrivateKey.generate()
    (tmp_path / "site").write_text(f"{other.public_key().public_bytes_raw().hex()}\n")
    with pytest.raises(DESCRIPTION.Refused, match="not signed by this site"):
        take(server)
    # While keys are rolled over, both are there.
    keys = (other, KEY)
    (tmp_path / "site").write_text("".join(f"{key.public_key().public_bytes_raw().hex()}\n" for key in keys))
    take(server)
    server.key = other
    take(server)
    assert disk.done.count("write") == 2


def test_what_runs_already_calls_a_trial_off(disk: Disk, machine: list[str], take: Taking) -> None:
    take(Server())
    server = Server()
    server.fields = {"version": OLD, "sequence": 18}
    assert take(server) == ["idle"]
    assert (disk.trying, disk.default) == (None, "a") and machine == ["systemctl reboot"]


def test_guests_are_not_killed(
    disk: Disk, machine: list[str], take: Taking, monkeypatch: pytest.MonkeyPatch, consoles: list[str]
) -> None:
    server, running = Server(), iter([2, None, 1, 0])
    server.fields = {"reboot": Reboot.WHEN_EMPTY}
    monkeypatch.setattr(PROGRAM, "guests", lambda: next(running))
    monkeypatch.setattr(PROGRAM.time, "sleep", lambda _: machine.append("sleep"))
    assert take(server) == [f"fetching {NEW}", *[f"waiting {NEW}"] * 3, f"rebooting {NEW}"]
    assert machine == ["sleep"] * 4 + ["systemctl reboot"]
    server.fields = {"reboot": Reboot.NEVER}
    machine.clear()
    assert take(server)[-1] == f"waiting {NEW}" and machine == [] and "next start" in consoles[-1]


@pytest.mark.parametrize("seconds", [60, -3600], ids=["later", "after the clock was set back"])
def test_an_order_that_comes_while_it_waits_is_looked_at(
    disk: Disk, machine: list[str], take: Taking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: int
) -> None:
    monkeypatch.setattr(PROGRAM, "guests", lambda: 1)
    later = time.time() + seconds
    monkeypatch.setattr(PROGRAM.time, "sleep", lambda _: os.utime(tmp_path / "update.keys", (later, later)))
    server = Server()
    server.fields = {"reboot": Reboot.WHEN_EMPTY}
    assert take(server)[-1] == f"waiting {NEW}" and machine == []


def test_no_slot_is_written_while_this_one_is_unproven(disk: Disk, take: Taking) -> None:
    take(Server())
    disk.starts()
    with pytest.raises(DESCRIPTION.Refused, match="no slot that has proved itself"):
        take(Server())


def test_what_a_slot_says_is_its_version() -> None:
    assert REPORT.version(f"{NEW}:17:2") == REPORT.Version(NEW, 17, 2)
    assert REPORT.version(OLD) == REPORT.Version(OLD)
    assert REPORT.version(None) == REPORT.version("x") == REPORT.Version()


def test_words_are_such_as_the_server_takes() -> None:
    for text in ('"quoted" <b>\nline', "", "...", "é" * 300, "it's (5/6)"):
        assert parse(f"a a {OLD} - refused {REPORT.words(text)}") is not None


def test_what_has_no_room_is_not_fetched(disk: Disk, take: Taking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PROGRAM, "_SPARED", 1 << 62)
    with pytest.raises(DESCRIPTION.Refused, match="no room for 4536 bytes"):
        take(Server())
    monkeypatch.setattr(PROGRAM.Path, "is_mount", lambda path: path.name == "data")
    PROGRAM.DATA.mkdir()
    take(Server())
    assert "write" in disk.done and list((PROGRAM.DATA / "update").iterdir()) == []
