"""Attacks on links: raced, replayed, stolen, guessed, on the wrong network, and with the service killed on the way."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.boot import OPERATOR
from provision.errors import NotFound
from provision.media.content import PlanContent
from provision.service.core import Core
from provision.service.links import Asked
from provision.service.media_builder import MediaBuilder
from provision.service.service import Service
from provision.store.links import Links
from tests.helpers.api_site import api_site
from tests.helpers.cli_runner import cli
from tests.helpers.killing import kill, killed
from tests.helpers.links import BMC, OTHER, content, make, take
from tests.helpers.netns import Peer, isolated, lan, sh
from tests.helpers.principals import ROOT
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY, MAC1, closed_site, settings, site

NETWORK = '[[listen]]\nnetwork = "{network}"\ninterface = "{interface}"\nhttp_port = 8080\ntftp = false\nlinks = true\n'
MGMT = NETWORK.format(network="mgmt", interface="eth1")
PARALLEL = 50
THIRD = "10.0.0.203"
NOTHING = {"http": ("404", "429"), "https": ("404", "429", "303")}
"""What there is for who asks for something else; over TLS the pages send strangers to their form."""


def statuses(machine: Peer, url: str, peers: list[str], out: Path) -> list[str]:
    """The statuses that so many clients get at the same moment, each from an address of its own."""
    for number in range(len(peers)):
        (out / f"{number}.iso").unlink(missing_ok=True)
    each = "".join(
        f"curl -s -k -o {out}/{number}.iso -w '%{{http_code}}\\n' --interface {peer} '{url}' & "
        for number, peer in enumerate(peers)
    )
    return machine.sh(f"{each} wait").split()


def link(state: Path, scheme: str, *arguments: str) -> str:
    """The URL of a new link that begins so; it is the same link by TLS and without."""
    urls: list[str] = cli(state, "link", "node1", *arguments, "--json").json["urls"]
    (url,) = (url for url in urls if url.startswith(f"{scheme}://"))
    return url


@isolated
def test_of_many_parallel_clients_one_wins(tmp_path: Path) -> None:
    """Over TLS, and in plain HTTP."""
    state, peers = served_both_ways(tmp_path), [f"10.0.0.{number}" for number in range(50, 50 + PARALLEL)]
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as bmc, serve(state) as served:
        wait_for(served)
        bmc.sh("; ".join(f"ip addr add {peer}/24 dev eth0" for peer in peers))
        winners = set[str]()
        for scheme in ("https", "http"):
            url = link(state, scheme)
            assert sorted(statuses(bmc, url, peers, tmp_path)) == ["200"] + ["404"] * (PARALLEL - 1)
            gained = [path for path in tmp_path.glob("*.iso") if CANARY in path.read_bytes()]
            assert len(gained) == 1
            winner = peers[int(gained[0].stem)]
            winners.add(winner)
            rows = cli(state, "link", "list", "--json").json
            assert [row["used"] for row in rows] == [1] * len(rows) and [winner] in [row["peers"] for row in rows]
            entries = cli(state, "audit", "--json", "--limit", "1000").json
            released = {e["address"] for e in entries if e["event"] == "decision" and e["answer"] == "released"}
            assert released == winners
        again = statuses(bmc, url, peers, tmp_path)
        assert again.count("200") == 1, "its own use goes on, and nobody else has one"


def served_both_ways(directory: Path) -> Path:
    """The state directory of a site whose links are honoured over TLS, and on the management network without."""
    return api_site(directory, toml=MGMT, address="10.0.0.1").state


def wait_for(served: Served) -> None:
    served.wait_for("serving network 'mgmt'")
    served.wait_for("serving the operators' API at")


@isolated
def test_a_secret_that_passed_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml=MGMT)
    with lan("eth1", "10.0.0.1/24", f"{BMC}/24", MAC1) as bmc, serve(state) as served:
        served.wait_for("serving network 'mgmt'")
        bmc.sh(f"ip addr add {OTHER}/24 dev eth0")
        made = cli(state, "link", "node1", "--address", BMC, "--json").json
        (url,), out = made["urls"], tmp_path / "out.iso"
        secret = url.rpartition("/")[2][:26].encode()
        bmc.sh(f"curl -sf --interface {BMC} -o {out} '{url}'; curl -s --interface {OTHER} '{url}' >{tmp_path}/other")
        bmc.sh(f"curl -s --interface {BMC} -o /dev/null -X POST '{url}' '{url}?x#y'")
        server = Path(f"/proc/{served.process.pid}")
        seen = [server.joinpath(name).read_bytes() for name in ("cmdline", "environ")]
        assert served.stop() == 0
        seen += [path.read_bytes() for path in state.rglob("*") if path.is_file()]
        seen += [served.log.encode(), cli(state, "audit", "--json").out.encode(), (tmp_path / "other").read_bytes()]
        seen.append(cli(state, "link", "list", "--json").out.encode())
        assert CANARY in out.read_bytes() and [data[:60] for data in seen if secret in data] == []
        assert any(made["id"].encode() in data for data in seen), "it is told by its id"


@isolated
def test_it_is_no_way_to_anything_else(tmp_path: Path) -> None:
    """Path games, forged headers, and the requests of which HTTP servers do not make the same; over TLS as well."""
    state = served_both_ways(tmp_path)
    with lan("eth1", "10.0.0.1/24", f"{BMC}/24", MAC1) as bmc, serve(state) as served:
        wait_for(served)
        bmc.sh(f"ip addr add {OTHER}/24 dev eth0; ip addr add {THIRD}/24 dev eth0")
        for scheme, thief in (("http", BMC), ("https", THIRD)):
            url = link(state, scheme, "--address", OTHER)
            base, _, name = url.rpartition("/b/")
            curl = f"curl -s -k --path-as-is -o {tmp_path}/got -w '%{{http_code}}' --interface {thief}"
            paths = [
                "b/../etc/passwd",
                "b/..%2f..%2fetc/passwd",
                f"b/%2e%2e/b/{name}",
                "b//" + name,
                f"b/{name}/",
                "b/",
            ]
            for path in (*paths, f"b/{name}%00", f"b/{name}.iso", f"b/{name.upper()}"):
                assert bmc.sh(f"{curl} '{base}/{path}'") in NOTHING[scheme], path
                assert CANARY not in (tmp_path / "got").read_bytes()
            forged = f"-H 'X-Forwarded-For: {OTHER}' -H 'Forwarded: for={OTHER}' -H 'X-Real-IP: {OTHER}'"
            assert bmc.sh(f"{curl} {forged} '{url}'") in ("404", "429")
            assert bmc.sh(f"{curl} {forged} -H 'Host: {OTHER}' '{url}'") in ("404", "429", "421")
            assert bmc.sh(f"{curl} '{url}'") == "429", "it has guessed too often"
            assert CANARY not in (tmp_path / "got").read_bytes()
            taken = f"curl -sfk -o {tmp_path}/got --interface {OTHER} -w '%{{http_code}}' '{url}'"
            assert bmc.sh(taken) == "200" and CANARY in (tmp_path / "got").read_bytes()
        assert re.search("Traceback|internal error", served.log) is None


@isolated
def test_plain_http_reaches_no_general_network(tmp_path: Path) -> None:
    """The settings ask for it, and the socket says that it is general."""
    state = closed_site(tmp_path, toml=MGMT + NETWORK.format(network="office", interface="eth2"))
    with (
        lan("eth1", "10.0.0.1/24", f"{BMC}/24", MAC1) as bmc,
        lan("eth2", "10.1.0.1/24", "10.1.0.9/24") as guest,
        serve(state) as served,
    ):
        served.wait_for("serving network", 2)
        url = cli(state, "link", "node1", "--json").json["urls"]
        assert [one.split("/b/")[0] for one in url] == ["http://10.0.0.1:8080"]
        path = url[0].partition("8080")[2]
        for host in ("10.1.0.1", "10.0.0.1"):
            got = guest.sh(f"ip route replace default via 10.1.0.1; curl -s -m 5 'http://{host}:8080{path}' || true")
            assert CANARY.decode() not in got and len(got) < 2000
        own = sh(f"curl -s -m 5 'http://10.0.0.1:8080{path}' || true")
        assert CANARY.decode() not in own, "nor a process of the server's own"
        assert bmc.sh(f"curl -sf -o {tmp_path}/got -w '%{{http_code}}' '{url[0]}'") == "200"


POINTS: dict[str, tuple[Any, str, int]] = {
    "before the use is taken": (Links, "_take", 0),
    "when it is taken, before it is witnessed": (Core, "witness", 1),
    "before the release is recorded": (Core, "decide", 1),
    "before the medium is made": (MediaBuilder, "plan", 1),
    "before its first byte": (PlanContent, "read_now", 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_use_that_was_taken_stays_taken(tmp_path: Path, point: str) -> None:
    """Killed there, the service has given nobody a byte; afterwards one peer gets the medium, and no second one."""
    owner, name, used = POINTS[point]
    with site(tmp_path) as here:
        link = make(here)
        clock, state = here.clock, here.state

    def ask() -> None:
        service = Service.open(settings(state), clock)
        with patch.object(owner, name, kill):
            taken = service.links.take(link.path, Asked(OPERATOR, ip_address(BMC)), sends=True)
            PlanContent(taken.plan).read_now(0, 1)

    killed(ask)
    service = Service.open(settings(state), clock)
    try:
        (row,) = service.links.listing(ROOT)
        assert row.used == used and service.core.store.database.distrust == ""
        again = type(here)(state, service, clock, here.base)
        if used:
            with pytest.raises(NotFound):
                take(again, link, OTHER)
        assert CANARY in content(take(again, link, BMC).plan)
        with pytest.raises(NotFound):
            take(again, link, OTHER)
    finally:
        service.close()
