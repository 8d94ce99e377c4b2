"""Attacks on the evidence: what one LAN sends hides nothing of another, a kill loses no count, a log of files tells
what was done to it, and nobody fills the disk with entries."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provision.lab.lans import ip
from provision.store import segments
from provision.store.audit import Audit, Limits
from provision.store.keys import load_key
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import closed_site
from tests.integration.attacks.site import ADDRESS, GUEST, MAC, MGMT, AttackSite, attack_site, http, pxe

STRANGER = "52:54:00:77:00:99"
SOURCES = [f"10.77.2.{number}" for number in range(100, 220)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("evidence")) as site:
        for source in SOURCES:
            ip(site.attacker, "addr", "add", f"{source}/24", "dev", "eth0")
        yield site


def serve_again(site: AttackSite, number: int) -> None:
    site.server = site.lab.spawn(site.lab.server, site.site.argv("serve"), log=f"again{number}.log")
    site.server.wait_for("serving the operator's socket", 60)


def log_size(site: AttackSite) -> int:
    return (site.site.state / "audit.log").stat().st_size


def flood(site: AttackSite) -> None:
    """Guests ask for every host from many addresses, until the log tells them apart no longer."""
    end = time.monotonic() + 180
    while not site.audit(channel="general:guest", reason="too many different machines; these are counted only"):
        assert time.monotonic() < end, "the flood came in"
        for source in SOURCES:
            for name in MAC:
                http(site.attacker, GUEST, f"/pxe/{pxe(name)}", source=source)


def test_a_flood_on_the_guest_lan_hides_nothing_of_the_management_lan(site: AttackSite) -> None:
    flood(site)
    stranger = site.mgmt.host("stranger", "10.77.1.99/24", mac=STRANGER)
    assert http(site.hosts["node3"], MGMT, f"/pxe/{pxe('node3')}").rule == "window-closed"
    assert http(stranger, MGMT, f"/pxe/{pxe('node1')}").rule == "foreign-mac"
    (own,) = site.audit(channel="management:mgmt", rule="window-closed")
    assert (own["host"], own["mac"], own["address"]) == ("node3", MAC["node3"], ADDRESS["node3"])
    (foreign,) = site.audit(channel="management:mgmt", rule="foreign-mac")
    assert (foreign["host"], foreign["mac"], foreign["address"]) == ("node1", STRANGER, "10.77.1.99")


def test_a_flood_on_the_management_lan_does_not_hide_a_host_that_is_itself(site: AttackSite) -> None:
    """A machine there with many addresses of its own, beside a known host that is refused."""
    crowd = site.mgmt.host("crowd", "10.77.1.98/24", mac="52:54:00:77:00:98")
    sources = [f"10.77.1.{number}" for number in range(100, 220)]
    for source in sources:
        ip(crowd, "addr", "add", f"{source}/24", "dev", "eth0")
    end = time.monotonic() + 180
    while not site.audit(channel="management:mgmt", reason="too many different machines; these are counted only"):
        assert time.monotonic() < end, "the flood came in"
        for source in sources:
            for name in MAC:
                http(crowd, MGMT, f"/pxe/{pxe(name)}", source=source)
    http(site.hosts["node3"], MGMT, f"/pxe/{pxe('node1')}")  # as another host: a new entry in any case
    http(site.hosts["node3"], MGMT, "/boot/seed/current/seed.cpio")
    assert site.audit(channel="management:mgmt", rule="window-closed", mac=MAC["node3"], host="node3")


def test_counts_survive_a_kill(site: AttackSite) -> None:
    """60 refusals, told by one entry and a count, are 60 refusals after kill -9."""
    source = "10.77.2.221"
    ip(site.attacker, "addr", "add", f"{source}/24", "dev", "eth0")
    site.server.stop()
    serve_again(site, 1)  # its limits begin anew
    for _ in range(60):
        assert http(site.attacker, GUEST, f"/pxe/{pxe('node1')}", source=source).rule
    beside, end = site.site.state / "audit.pending", time.monotonic() + 60
    while f'"address":"{source}"' not in beside.read_text() or '"count":59' not in beside.read_text():
        assert time.monotonic() < end, "counts are written while they are counted"
        time.sleep(0.1)
    os.kill(site.server.pid, signal.SIGKILL)
    site.server.stop()
    serve_again(site, 2)
    found = site.audit(address=source)
    assert sum(entry.get("count", 1) for entry in found) == 60
    assert site.audit(event="recovered", rule="killed")
    assert "whole" in site.site.call("audit", "--verify")


def test_one_byte_ranges_do_not_fill_the_log(site: AttackSite) -> None:
    """A host that may boot at any time asks for the first byte of its medium, over and over."""
    for _ in range(3):
        answer = http(site.hosts["node1"], MGMT, "/http-boot/boot.iso", headers={"Range": "bytes=0-0"})
        assert answer.status == 206
    before = log_size(site)
    for number in range(300):
        asked = {"Range": f"bytes={number % 7}-{number % 7}"}
        assert http(site.hosts["node1"], MGMT, "/http-boot/boot.iso", headers=asked).status == 206
    assert log_size(site) - before < 3000, "a few entries of others, and not one for each range"
    site.server.stop()
    serve_again(site, 3)
    released = site.audit(event="decision", host="node1", medium="http-boot", answer="released", mac=MAC["node1"])
    told = [entry for entry in released if "bytes" in entry]
    assert sum(entry["bytes"] for entry in told) == 303
    assert min(entry["from"] for entry in told) == 0 and max(entry["to"] for entry in told) == 6


# Files


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose audit log has many files."""
    state = closed_site(tmp_path_factory.mktemp("many"))
    log = Audit(state / "audit.log", load_key(state, {}), limits=Limits(size=2000, kept=50))
    for number in range(60):
        log.record({"event": "note", "host": f"n{number}"}, durable=True)
    log.close()
    return state


def swapped(found: list[Path]) -> None:
    aside = found[0].with_name("aside")
    found[1].rename(aside)
    found[2].rename(found[1])
    aside.rename(found[2])


def removed(found: list[Path]) -> None:
    found[2].unlink()


def removed_first(found: list[Path]) -> None:
    found[0].unlink()


def truncated(found: list[Path]) -> None:
    found[1].write_bytes(b"".join(found[1].read_bytes().splitlines(True)[:-2]))


def replayed(found: list[Path]) -> None:
    shutil.copy(found[1], found[2])


def added(found: list[Path]) -> None:
    shutil.copy(found[1], found[1].with_name("audit.log.000000009999"))


@pytest.mark.parametrize("attack", [swapped, removed, removed_first, truncated, replayed, added])
def test_meddling_with_older_files_is_told(many: Path, tmp_path: Path, attack: Callable[[list[Path]], None]) -> None:
    state = tmp_path / "state"
    shutil.copytree(many, state, symlinks=True)
    assert "is whole" in cli(state, "audit", "--verify").out
    shown = cli(state, "audit", "--json", "--limit", "60").json
    assert len(shown) == 60 and shown[0]["seq"] == shown[-1]["seq"] - 59, "read across files"
    attack([one for _, one in segments.older(state / "audit.log")])
    ran = cli(state, "audit", "--verify")
    assert ran.code == 1 and "NOT whole" in ran.out, ran
