"""Which hosts are up: what a message of one is worth, and that the image's shell signs as the server checks."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provision import assets
from provision.service.alive import _RUNS, Alive, Message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = bytes(range(32))


def said(sequence: int, up: bool = True, run: str = "run1", boot: str = "17") -> Message:
    message = Message("node1", boot, run, sequence, up, b"")
    return replace(message, tag=hmac.digest(KEY, message.signed, hashlib.sha256))


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_message_is_signed_whole() -> None:
    message = said(5)
    assert message.is_genuine(KEY) and not message.is_genuine(KEY[::-1])
    changes: tuple[dict[str, Any], ...] = (
        {"host": "node2"},
        {"boot": "18"},
        {"run": "run2"},
        {"sequence": 6},
        {"up": False},
        {"tag": message.tag[:-1]},
        {"tag": b""},
    )
    assert not any(replace(message, **change).is_genuine(KEY) for change in changes)


def test_what_was_heard_before_changes_nothing() -> None:
    alive = Alive()
    assert alive.heard("node1") is None
    assert alive.take(said(1), NOW) and alive.take(said(3), after(10))
    assert [alive.take(said(n), after(40)) for n in (1, 2, 3)] == [False] * 3
    assert alive.heard("node1") == after(10)


def test_a_run_that_crashed_has_ended_when_the_host_comes_up_again() -> None:
    """Else a host that is shut down after a crash would count as up for as long as the crashed run did."""
    alive = Alive()
    alive.take(said(1, run="crashed"), NOW)
    alive.booted("node1", "18", after(60))
    alive.take(said(1, boot="18"), after(70))
    assert alive.heard("node1") == after(70)
    alive.take(said(2, up=False, boot="18"), after(80))
    assert alive.heard("node1") is None
    assert not alive.take(said(1, run="crashed"), after(90)), "a copy"
    assert alive.take(said(2, run="crashed"), after(100)) and alive.heard("node1") == after(100), "it was no crash"


def test_a_clean_shutdown_is_believed_at_once_and_its_copy_is_not() -> None:
    alive = Alive()
    alive.take(said(1), NOW)
    assert alive.take(said(2, up=False), after(5))
    assert alive.heard("node1") is None
    alive.take(said(1, run="run2"), after(60))
    assert not alive.take(said(2, up=False), after(61)), "a copy of the last start's word"
    assert alive.heard("node1") == after(60)


def test_nobody_goes_down_who_was_not_seen_up() -> None:
    """After the server was started again it knows no sequence, so that old copies of messages look new."""
    alive = Alive()
    alive.booted("node1", "17", NOW)
    assert alive.take(said(9, up=False, run="earlier"), after(1))
    assert alive.heard("node1") == NOW
    alive.take(said(1), after(2))
    alive.take(said(10, up=False, run="earlier"), after(3))
    assert alive.heard("node1") == after(2)


def test_coming_up_counts_until_the_host_speaks_for_itself() -> None:
    alive = Alive()
    alive.booted("node1", "17", NOW)
    assert alive.heard("node1") == NOW
    alive.take(said(1), after(1))
    alive.take(said(2, up=False), after(2))
    assert alive.heard("node1") is None


def test_the_starts_of_a_host_are_bounded() -> None:
    alive = Alive()
    for number in range(_RUNS * 3):
        alive.take(said(1, run=f"run{number}"), after(number))
    assert len(alive._hosts["node1"]) == _RUNS
    assert alive.heard("node1") == after(_RUNS * 3 - 1)


SHELLS = (["dash"], ["busybox", "sh"])


def agent(tmp_path: Path, shell: Sequence[str], about: dict[str, Any], word: str, sent: int = 0) -> list[Message]:
    """What the image's agent sends, run with stand-ins for the network and systemd; "up" until `sent` messages."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "host.json").write_text(json.dumps(about, indent=2))
    stand_ins = {
        "wget": 'for given; do case $given in *.json) cat "$given" >>$HOME/sent; echo >>$HOME/sent;; esac; done\n'
        'printf "%s\\n" "$*" >>$HOME/arguments\n',
        "systemctl": "echo stopping\n",
        "sleep": f"[ $(wc -l <$HOME/sent) -lt {sent} ] || kill $PPID\n",
    }
    for name, body in stand_ins.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/dash\n{body}")
        (tmp_path / "bin" / name).chmod(0o755)
    script = (assets.directory("images") / "host/root/usr/lib/provision/alive").read_text()
    for there, here in (
        # By their paths: BusyBox prefers its own.
        ("PATH=/usr/bin:/usr/sbin", "PATH=/usr/bin:/bin"),
        ("timeout 5 wget", f"{tmp_path}/bin/wget"),
        ("systemctl", f"{tmp_path}/bin/systemctl"),
        ("sleep 10", f"{tmp_path}/bin/sleep"),
        ("/etc/provision/host.json", f"{tmp_path}/host.json"),
        ("work=/run/provision", f"work={tmp_path}"),
    ):
        assert there in script
        script = script.replace(there, here)
    (tmp_path / "alive").write_text(script)
    subprocess.run([*shell, tmp_path / "alive", word], env={"HOME": str(tmp_path)}, timeout=60, check=False)
    messages = [json.loads(line) for line in (tmp_path / "sent").read_text().splitlines()]
    return [
        Message(m["host"], m["boot"], m["run"], m["sequence"], m["state"] == "up", bytes.fromhex(m["tag"]))
        for m in messages
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    ("boot", "key"),
    [("17", KEY), (f"iso {'0a' * 16}", bytes(range(224, 256))), ("1", bytes(32)), ("2", b"%\\\n\0'\"$`" * 4)],
    ids=("network", "copy", "zeros", "signs"),
)
def test_the_agent_of_the_image_signs_as_the_server_checks(
    tmp_path: Path, shell: list[str], boot: str, key: bytes
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.fail(f"{shell[0]} is not there: apt-get install {shell[0]}")
    url = "http://10.0.0.1:8080/alive"
    about = {"host": "node1", "phone_home": {"url": "x", "key": "ab"}}
    about |= {"alive": {"url": url, "boot": boot, "key": key.hex()}}
    messages = agent(tmp_path, shell, about, "up", 2)
    # These two came within a hundredth of a second, and not within ten seconds as on a host.
    while float(Path("/proc/uptime").read_text().split()[0]) * 100 <= messages[-1].sequence:
        time.sleep(0.01)
    messages += agent(tmp_path, shell, about, "down")[2:]
    assert [message.up for message in messages] == [True, True, False]
    assert [(message.host, message.boot) for message in messages] == [("node1", boot)] * 3
    assert all(message.is_genuine(key) for message in messages)
    alive = Alive()
    assert all(alive.take(message, NOW) for message in messages), "the sequence grows, also when it is started again"
    arguments = (tmp_path / "arguments").read_text()
    assert url in arguments and key.hex() not in arguments


def test_an_image_without_a_server_that_listens_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sent").touch()
    assert agent(tmp_path, ["dash"], {"host": "node1"}, "up") == []
