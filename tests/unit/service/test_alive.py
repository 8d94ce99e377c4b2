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
from provision.errors import Denied, NotFound
from provision.media.initrd import ALIVE
from provision.media.plan import REFUSAL
from provision.service.alive import _RUNS, Alive, Message
from provision.service.service import Service
from provision.stored import Holds, Refused, parse
from tests.helpers.agent import TOKEN2, WAYS, Agent, answer, booted
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC2,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    seed_url,
    settings,
    site,
)

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
        'printf "%s\\n" "$*" >>$HOME/arguments\n[ ! -e $HOME/answer ] || cp $HOME/answer $HOME/alive.answer\n',
        "forget-identity": "touch $HOME/forgotten\n",
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
        ("/usr/lib/provision/forget-identity", f"{tmp_path}/bin/forget-identity"),
        ("sleep 10", f"{tmp_path}/bin/sleep"),
        ("/etc/provision/host.json", f"{tmp_path}/host.json"),
        ("/etc/provision/alive.json", f"{tmp_path}/alive.json"),
        ("work=/run/provision", f"work={tmp_path}"),
    ):
        assert there in script
        script = script.replace(there, here)
    (tmp_path / "alive").write_text(script)
    subprocess.run([*shell, tmp_path / "alive", word], env={"HOME": str(tmp_path)}, timeout=60, check=False)
    messages = [json.loads(line) for line in (tmp_path / "sent").read_text().splitlines()]
    return [
        Message(
            m["host"], m["boot"], m["run"], m["sequence"], m["state"] == "up", bytes.fromhex(m["tag"]), m["identity"]
        )
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


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_says_what_is_on_its_disk_and_obeys_the_server_alone(tmp_path: Path, shell: list[str]) -> None:
    about = {"host": "node1", "credentials": {n: {"path": f"/etc/{n}", "version": 3} for n in ("keytab", "tls-key")}}
    about |= {"labels": {"version": "2"}, "alive": {"url": "http://10.0.0.1/alive", "boot": "17", "key": KEY.hex()}}
    (tmp_path / "manifest.json").write_text(f'{{"format": 1, "host": "node1", "revision": "{"ab" * 32}", "files": [\n')
    (tmp_path / "identity").write_text("stored\n")
    (tmp_path / "answer").write_text(json.dumps({"order": "wipe", "tag": "00" * 32}))
    (message,) = agent(tmp_path, shell, about, "up", 1)
    assert message.is_genuine(KEY)
    assert parse(message.identity) == Holds("ab" * 32, {"keytab": 3, "tls-key": 3})
    assert not (tmp_path / "forgotten").exists(), "an order that nobody has signed"
    (tmp_path / "identity").write_text("refused sda holds something else\n")
    *_, message = agent(tmp_path, shell, about, "up", 2)
    assert message.is_genuine(KEY) and parse(message.identity) == Refused("sda holds something else")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_host_says_by_its_envelope_s_key_what_is_on_its_disk(tmp_path: Path, shell: list[str]) -> None:
    """Its seed has no key, and says where the envelope is."""
    about = {"host": "node1", "credentials": {}, "envelope": {"url": "http://10.1.0.1:8080/envelope", "keys": ["ab"]}}
    opened = {"alive": {"boot": "envelope 1772366400", "key": KEY.hex()}, "credentials": {"token": 3}}
    (tmp_path / "alive.json").write_text(json.dumps(opened, indent=2))
    (tmp_path / "identity").write_text(f"stored {'ab' * 32} token=3\n")
    (message,) = agent(tmp_path, shell, about, "up", 1)
    assert message.is_genuine(KEY) and (message.host, message.boot) == ("node1", "envelope 1772366400")
    assert parse(message.identity) == Holds("ab" * 32, {"token": 3})
    arguments = (tmp_path / "arguments").read_text()
    assert "http://10.1.0.1:8080/alive" in arguments and KEY.hex() not in arguments


def test_a_host_whose_envelope_did_not_open_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sent").touch()
    about = {"host": "node1", "envelope": {"url": "http://10.1.0.1/envelope", "keys": []}}
    assert agent(tmp_path, ["dash"], about, "up") == []


def test_an_image_without_a_server_that_listens_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sent").touch()
    assert agent(tmp_path, ["dash"], {"host": "node1"}, "up") == []


@pytest.mark.parametrize("way", WAYS)
def test_whoever_asks_in_its_name_gets_nothing_while_it_is_up(here: Site, way: str) -> None:
    agent = booted(here)
    for _ in range(30):
        got = answer(here, way)
        assert b"(rule: host-is-up)" in got and TOKEN2 not in got
        here.clock.advance(seconds=10)
        agent.says()


@pytest.mark.parametrize("way", WAYS)
def test_it_boots_again_when_it_has_been_silent_for_a_while(here: Site, way: str) -> None:
    booted(here)
    here.clock.advance(seconds=29)
    assert b"host-is-up" in answer(here, way)
    here.clock.advance(seconds=1)
    assert b"host-is-up" not in answer(here, way)


def test_how_long_is_the_sites_to_say(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("  base: base\n", "  base: base\n  policy: {alive_seconds: 120}\n")
    with site(tmp_path, inventory) as here:
        booted(here)
        here.clock.advance(seconds=119)
        assert b"host-is-up" in answer(here, "seed")
        here.clock.advance(seconds=1)
        assert TOKEN2 in answer(here, "seed")


def test_the_operator_knows_better_until_the_host_says_so_again(here: Site) -> None:
    agent = booted(here)
    here.clock.advance(seconds=1)
    here.window("node2")
    revision = seed_url(here, MAC2)
    for _ in range(3):
        assert TOKEN2 in charged(here.service.netboot.seed(origin(MAC2), revision)).data
    agent.says()
    assert b"host-is-up" in answer(here, "seed")


def test_a_window_that_is_older_than_its_last_word_is_no_override(here: Site) -> None:
    """A window for several boots stays open while the host is up, and what runs there could use it."""
    here.window(boots=5)
    netboot = here.service.netboot
    agent = Agent(here, charged(netboot.seed(origin(), seed_url(here))).data)
    agent.up()
    here.clock.advance(seconds=1)
    here.window(boots=5)
    assert CANARY in charged(netboot.seed(origin(), seed_url(here))).data
    agent.says()
    with pytest.raises(Denied) as caught:
        charged(netboot.seed(origin(), None))
    assert caught.value.rule == "host-is-up"
    here.service.windows.close("node1", ROOT)
    assert b"window-closed" in netboot.pxelinux_config(origin(), origin().requester.mac or "")


def test_the_refusal_lets_the_loader_try_again(here: Site) -> None:
    booted(here)
    netboot = here.service.netboot
    with pytest.raises(NotFound, match="node2 is up"):
        netboot.pxelinux_config(origin(MAC2), MAC2)
    grub = netboot.grub_config(origin(MAC2))
    assert b"sleep 10" in grub and b'configfile "$prefix/grub.cfg"' in grub and b"exit" not in grub
    assert boot_iso(netboot, origin(MAC2), 0, everything).revision == REFUSAL
    assert b"\nreboot\n" in answer(here, "iso")


def _started_again(here: Site, features: tuple[str, ...]) -> Service:
    here.service.close()
    service = Service.open(settings(here.state), here.clock)
    service.core._bases[here.base.id] = replace(here.base, features=features)
    here.service = service
    return service


def test_a_server_that_was_started_again_waits_for_the_hosts_to_speak(here: Site) -> None:
    booted(here)
    here.clock.advance(seconds=5)
    _started_again(here, (ALIVE,))
    assert b"host-is-up" in answer(here, "seed")
    here.clock.advance(seconds=29)
    assert b"host-is-up" in answer(here, "seed")
    here.clock.advance(seconds=1)
    assert TOKEN2 in answer(here, "seed"), "it has said nothing for long"


def test_old_words_say_nothing_to_a_server_that_was_started_again(here: Site) -> None:
    agent = booted(here)
    copies = [agent.message(), agent.message(), agent.message(up=False)]
    _started_again(here, (ALIVE,))
    for copied in copies:
        here.service.netboot.phone_home.alive(copied)
    assert b"host-is-up" in answer(here, "seed")
    agent.run = "run2"
    agent.says()
    here.clock.advance(seconds=29)
    assert b"host-is-up" in answer(here, "seed")


def test_only_an_image_with_the_agent_is_waited_for(here: Site) -> None:
    booted(here)
    _started_again(here, ())
    assert TOKEN2 in answer(here, "seed")


def test_a_clock_that_was_set_back_keeps_nobody_up(here: Site) -> None:
    booted(here)
    here.clock.now -= timedelta(days=1)
    here.service.core.footing.accept_clock("it was a day ahead", ROOT)
    assert TOKEN2 in answer(here, "seed")
