"""A host that is up gets no seed, whoever asks: a process on it, a guest behind it, or a machine with its address."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Denied, NotFound
from provision.media.initrd import ALIVE
from provision.media.plan import REFUSAL
from provision.media.reader import Reader
from provision.service.alive import Message
from provision.service.netboot import Netboot
from provision.service.service import Service
from provision.web import boot_app
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC2,
    Reply,
    Site,
    boot_iso,
    charged,
    edge,
    everything,
    origin,
    request,
    seed_url,
    settings,
    site,
    uncharged,
)

TOKEN2 = b"token-of-node2"


class Agent:
    """The agent of a booted host, with what it reads in its seed."""

    def __init__(self, here: Site, seed: bytes, run: str = "run1") -> None:
        start = seed.index(b'{\n  "format"')
        text = seed[start : seed.index(b"\n}\n", start) + 2].decode()
        self.about: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
        self.here, self.run, self.sequence = here, run, 0

    def up(self) -> None:
        """Say once that the boot has come up."""
        self.here.service.netboot.phone_home.up(self.about["host"], bytes.fromhex(self.about["phone_home"]["key"]))

    def message(self, up: bool = True) -> Message:
        self.sequence += 1
        said = Message(self.about["host"], self.about["alive"]["boot"], self.run, self.sequence, up, b"")
        key = bytes.fromhex(self.about["alive"]["key"])
        return replace(said, tag=hmac.digest(key, said.signed, hashlib.sha256))

    def says(self, up: bool = True) -> None:
        self.here.service.netboot.phone_home.alive(self.message(up))


def booted(here: Site) -> Agent:
    """node2, which may boot at any time, has booted and is up."""
    seed = charged(here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))).data
    assert TOKEN2 in seed
    agent = Agent(here, seed)
    agent.up()
    agent.says()
    return agent


Ask = Callable[[Netboot], bytes]
WAYS: dict[str, Ask] = {
    "pxelinux": lambda netboot: netboot.pxelinux_config(origin(MAC2), MAC2),
    "grub": lambda netboot: netboot.grub_config(origin(MAC2)),
    "seed": lambda netboot: charged(netboot.seed(origin(MAC2), None)).data,
    "size": lambda netboot: uncharged(netboot.seed(origin(MAC2), None)).data,
    "iso": lambda netboot: _read(netboot, 0),
}


def _read(netboot: Netboot, start: int) -> bytes:
    plan = boot_iso(netboot, origin(MAC2), start, everything)
    with Reader(plan) as reader:
        return reader.pread(0, plan.size)


def answer(here: Site, way: str) -> bytes:
    try:
        return WAYS[way](here.service.netboot)
    except Denied as error:
        return f"(rule: {error.rule})".encode()
    except NotFound as error:
        assert "node2 is up" in error.fact, error
        return b"(rule: host-is-up)"


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


def test_a_clean_shutdown_says_so(here: Site) -> None:
    agent = booted(here)
    here.clock.advance(seconds=3)
    agent.says(up=False)
    assert TOKEN2 in answer(here, "seed")
    assert [entry["host"] for entry in here.audit("down")] == ["node2"]


def test_what_was_said_before_cannot_be_said_again_by_others(here: Site) -> None:
    agent = booted(here)
    down, phone_home = agent.message(up=False), here.service.netboot.phone_home
    phone_home.alive(down)
    seed = charged(here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))).data
    again = Agent(here, seed, "run2")
    again.up()
    again.says()
    for copied in (down, replace(down, sequence=down.sequence + 1), replace(down, run="run2", sequence=99)):
        with pytest.raises(Denied, match="alive"):
            phone_home.alive(copied)
        assert b"host-is-up" in answer(here, "seed")
    refused = [entry for entry in here.audit("alive") if entry["answer"] == "denied"]
    assert sum(entry.get("count", 1) for entry in refused) == 3
    assert {entry["rule"] for entry in refused} == {"alive"}


def test_the_key_that_crosses_the_lan_at_up_signs_nothing(here: Site) -> None:
    agent = booted(here)
    agent.about["alive"]["key"] = agent.about["phone_home"]["key"]
    with pytest.raises(Denied):
        agent.says(up=False)
    assert b"host-is-up" in answer(here, "seed")


def test_one_host_does_not_speak_for_another(here: Site) -> None:
    agent = booted(here)
    for host in ("node1", "node9", "node3"):
        agent.about["host"] = host
        with pytest.raises(Denied):
            agent.says()
    assert here.service.core.alive.heard("node1") is None


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


def test_it_is_told_to_the_journal_and_shown(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    booted(here)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            answer(here, "seed")
    told = [record.getMessage() for record in caplog.records if "ALERT host-is-up: node2:" in record.getMessage()]
    assert len(told) == 1
    row = here.service.reports.status(ROOT, "node2").hosts[0]
    assert [(alert.event, alert.count) for alert in row.alerts] == [("host-is-up", 20)]
    assert row.heard == here.clock.now.isoformat()
    denied = [entry for entry in here.audit("decision") if entry.get("rule") == "host-is-up"]
    assert denied and denied[0]["host"] == "node2"
    here.clock.advance(hours=25)
    assert here.service.reports.status(ROOT, "node2").hosts[0].alerts == ()


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


def test_explain_names_an_image_without_the_agent(here: Site) -> None:
    rows = here.service.reports.explain("node2", ROOT)
    marked = {(row.medium, row.channel) for row in rows if row.caution}
    assert marked == {("pxe", "management:mgmt"), ("http-boot", "management:mgmt")}
    here.service.core._bases[here.base.id] = replace(here.base, features=(ALIVE,))
    assert not any(row.caution for row in here.service.reports.explain("node2", ROOT))


# Over HTTP


def post(here: Site, body: bytes) -> Reply:
    return request(boot_app.create(here.service.netboot, edge()), "POST", "/alive", body=body)


def encoded(message: Message) -> dict[str, Any]:
    state = "up" if message.up else "down"
    fields = {"host": message.host, "boot": message.boot, "run": message.run, "sequence": message.sequence}
    return {**fields, "state": state, "tag": message.tag.hex()}


def test_over_http(here: Site) -> None:
    agent = booted(here)
    assert agent.about["alive"]["url"] == "http://10.0.0.1/alive"
    said = encoded(agent.message())
    assert post(here, json.dumps(said).encode()).status == 204
    again = post(here, json.dumps(said).encode())
    assert (again.status, again.problem["rule"]) == (403, "alive")


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": -1},
        {"sequence": 2**53},
        {"sequence": True},
        {"sequence": "7"},
        {"state": "sideways"},
        {"run": "a|b"},
        {"run": "x" * 64},
        {"boot": 17},
        {"host": ["node2"]},
        {"host": "node2\n"},
        {"tag": "zz"},
        {"tag": None},
    ],
)
def test_what_is_no_message(here: Site, change: dict[str, Any]) -> None:
    agent = booted(here)
    before = here.service.core.alive.heard("node2")
    here.clock.advance(seconds=1)
    assert post(here, json.dumps(encoded(agent.message()) | change).encode()).status in (400, 422)
    for body in (b"", b"[]", b"{}", b"null", b"\xff", b"[" * 50_000):
        assert post(here, body).status in (400, 422)
    assert here.service.core.alive.heard("node2") == before


def test_a_clock_that_was_set_back_keeps_nobody_up(here: Site) -> None:
    booted(here)
    here.clock.now -= timedelta(days=1)
    here.service.core.footing.accept_clock("it was a day ahead", ROOT)
    assert TOKEN2 in answer(here, "seed")
