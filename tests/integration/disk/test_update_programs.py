"""The host's programs for updates, against a server in the same process, stand-ins for the slots and for the rest of
the machine."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.host import Reboot
from provision.slots import Doing, parse
from provision.update import Update, UpdateFile, encode
from tests.helpers.host_programs import load
from tests.helpers.slotted_disk import OLD, Disk

load("libcrypto")
load("answers")
load("signed_file")
DESCRIPTION: Any = load("update_description")
REPORT: Any = load("slot_report")
PROGRAM: Any = load("update")
GATE: Any = load("update-gate")

KEY = Ed25519PrivateKey.generate()
NEW = "0b" * 32
KERNEL, INITRDS = os.urandom(3000), (os.urandom(1024), os.urandom(512))


class Server:
    """A server that has what it describes, and breaks off after some bytes."""

    host = "node7"

    def __init__(self) -> None:
        self.files = {"kernel": KERNEL, **{f"initrd/{number}": data for number, data in enumerate(INITRDS)}}
        self.fields: dict[str, Any] = {}
        self.key, self.parts, self.breaks = KEY, 0, 10**9

    def describe(self, nonce: str) -> bytes:
        files = [UpdateFile(len(data), hashlib.sha256(data).hexdigest()) for data in (KERNEL, *INITRDS)]
        update = Update(
            "node7", "example.test", NEW, 17, 1, nonce, Reboot.NOW, "console=ttyS0 quiet", files[0], tuple(files[1:])
        )
        return encode(replace(update, **self.fields), self.key)

    def patiently(self, path: str, what: str, most: int) -> bytes:
        word, *rest = what.split()
        if word == "describe":
            return self.describe(rest[0])
        self.parts += 1
        if self.parts > self.breaks:
            raise DESCRIPTION.Refused("the server does not answer")
        version, name, start = rest
        assert (path, version) == ("/update/part", self.fields.get("version", NEW))
        return self.files[name][int(start) :][:1000]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(REPORT, "slots", found)
    return found


@pytest.fixture
def consoles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(REPORT, "on_consoles", said.append)
    return said


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, consoles: list[str]) -> Iterator[list[str]]:
    """What was run of other programs; no guest runs, and time is not waited for."""
    ran: list[str] = []
    monkeypatch.setattr(PROGRAM, "guests", lambda: 0)
    monkeypatch.setattr(PROGRAM, "ORDERED", tmp_path / "update.keys")
    monkeypatch.setattr(PROGRAM, "SITE_KEYS", tmp_path / "site")
    monkeypatch.setattr(PROGRAM, "WORK", tmp_path)
    monkeypatch.setattr(PROGRAM, "DATA", tmp_path / "data")
    monkeypatch.setattr(PROGRAM, "_TELLING", 0)
    monkeypatch.setattr(PROGRAM.subprocess, "run", lambda command, **_: ran.append(" ".join(command)))
    (tmp_path / "update.keys").write_text(f"{KEY.public_key().public_bytes_raw().hex()}\n")
    yield ran


Taking = Callable[[Server], list[str]]


@pytest.fixture
def take(machine: list[str], tmp_path: Path) -> Taking:
    def taking(server: Server) -> list[str]:
        """Take an update; what was said of the slots, each a report that the server takes."""
        said: list[str] = []

        def say(found: Any, doing: str) -> None:
            REPORT.say(found, doing, tmp_path / "said")
            text = (tmp_path / "said").read_text()
            assert parse(text) is not None
            said.append(doing)

        PROGRAM.take(server, "example.test", say)
        return said

    return taking


def test_an_update_goes_to_the_other_slot_and_is_tried(disk: Disk, machine: list[str], take: Taking) -> None:
    assert take(Server()) == [f"fetching {NEW}", f"rebooting {NEW}"]
    assert disk.content == {"b": (KERNEL, b"".join(INITRDS), "console=ttyS0 quiet\n")}
    assert (disk.versions, disk.trying, disk.default) == ({"a": OLD, "b": f"{NEW}:17:1"}, "b", "a")
    assert machine == ["systemctl reboot"]


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


class Machine:
    """What the gate looks at, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.system, self.libvirt, self.did = "running", True, []
        self.heard = tmp_path / "heard"
        monkeypatch.setattr(GATE, "run", self.run)
        monkeypatch.setattr(GATE, "HEARD", str(self.heard))

    did: list[str]

    def run(self, *command: str) -> tuple[str, bool]:
        if command[0] == "virsh":
            return "", self.libvirt
        if "is-system-running" in command:
            return self.system, self.system == "running"
        if "--failed" in command:
            return ("x.service loaded failed failed X" if self.system == "degraded" else ""), True
        self.did.append(" ".join((command[0], *command[-1:])))
        return "", True


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: Disk, take: Taking, consoles: list[str]) -> Machine:
    """The host has started from the slot on trial."""
    take(Server())
    disk.starts()
    return Machine(monkeypatch, tmp_path)


def prove(seconds: float = 0.05) -> list[str]:
    said: list[str] = []
    GATE.prove(REPORT.look(), seconds, lambda _, doing: said.append(doing), 0.01, 0)
    return said


def test_a_slot_that_proves_itself_is_kept(disk: Disk, gated: Machine) -> None:
    gated.heard.touch()
    assert prove() == [f"trying {NEW}", "idle"]
    assert (disk.default, disk.trying) == ("b", None)
    assert gated.did == ["busctl 60000000", "busctl 0"], "the watchdog watches for as long as nothing is proved"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"system": "degraded"}, "systemd is degraded: x.service"),
        ({"system": "starting"}, "systemd is starting"),
        ({"system": ""}, "systemd is silent"),
        ({"libvirt": False}, "libvirt does not answer"),
        ({}, "the server has not answered"),
    ],
)
def test_one_that_does_not_is_left_at_once(
    disk: Disk, gated: Machine, broken: dict[str, Any], why: str, consoles: list[str]
) -> None:
    for name, value in broken.items():
        gated.heard.touch()
        setattr(gated, name, value)
    assert prove() == [f"trying {NEW}", f"failed {NEW} 1 {why}"]
    assert gated.did == ["busctl 60000000", "systemctl reboot"] and why in consoles[-1]
    assert (disk.default, disk.trying) == ("a", "b")
    disk.starts()
    found = REPORT.look()
    assert (found.running, found.is_unproven) == ("a", False)
    report = parse(f"a a {OLD} {NEW} {REPORT.settled(found)}")
    assert report is not None and (report.doing, report.version, report.attempt) == (Doing.FAILED, NEW, 1)


def test_an_image_that_cannot_read_its_own_slot_leaves_no_word_that_the_server_would_not_take(
    disk: Disk, tmp_path: Path
) -> None:
    found, said = REPORT.look(), tmp_path / "said"
    REPORT.say(found, "idle", said)
    assert parse(said.read_text()) is not None
    said.unlink()
    REPORT.say(replace(found, versions={"a": REPORT.Version(), "b": REPORT.Version()}), "trying ", said)
    assert not said.exists()


def test_one_that_cannot_even_be_started_has_failed(disk: Disk, take: Taking) -> None:
    take(Server())
    assert REPORT.settled(REPORT.look()) == "idle"
    disk.starts()
    disk.running = "a"
    assert REPORT.settled(REPORT.look()) == f"failed {NEW} 1 it did not prove itself"
    with pytest.raises(DESCRIPTION.Refused, match="has failed on this host"):
        take(Server())


def test_the_limit_is_in_the_kernels_arguments(tmp_path: Path) -> None:
    for text, expected in (("quiet", 600), ("quiet provision.gate=90\n", 90), ("xprovision.gate=5", 600)):
        (tmp_path / "cmdline").write_text(text)
        assert GATE.limit(tmp_path / "cmdline") == expected


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
