"""Links of a running service, read by the programs that people and BMCs have: whole, resumed, and by ranges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.boot import Medium
from tests.helpers.cli_runner import cli
from tests.helpers.netns import Peer, isolated, lan
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY, MAC1, closed_site

TOML = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\n'
BMC, OTHER = "10.0.0.201", "10.0.0.202"


@dataclass
class Scene:
    """A service with a BMC on its management LAN, which has several addresses there."""

    state: Path
    bmc: Peer
    served: Served
    out: Path

    def link(self, *arguments: str) -> str:
        """The URL of a new link to node1's medium."""
        return str(cli(self.state, "link", "node1", *arguments, "--json").json["urls"][0])

    def status(self, url: str, *arguments: str, peer: str = BMC) -> int:
        """The status that curl gets."""
        line = " ".join(("curl -s -o /dev/null -w '%{http_code}' --interface", peer, *arguments, f"'{url}'"))
        return int(self.bmc.sh(line))


@contextmanager
def scene(directory: Path, links: bool = True) -> Iterator[Scene]:
    state = closed_site(directory, toml=f"{TOML}links = {str(links).lower()}\n")
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as bmc, serve(state) as served:
        served.wait_for("serving network 'mgmt'")
        for address in (BMC, OTHER):
            bmc.sh(f"ip addr add {address}/24 dev eth0")
        yield Scene(state, bmc, served, directory)


def rows(here: Scene) -> list[dict[str, object]]:
    found = cli(here.state, "link", "list", "--json").json
    assert isinstance(found, list)
    return found


@isolated
def test_every_client_gets_the_same_bytes(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        url, out = here.link("--uses", "1", "--address", BMC), tmp_path
        here.bmc.sh(f"curl -sf --interface {BMC} -o {out}/whole.iso '{url}'")
        whole = (out / "whole.iso").read_bytes()
        assert CANARY in whole and len(whole) == 640 * 1024
        wanted = hashlib.sha256(whole).hexdigest()
        (out / "curl.iso").write_bytes(whole[:270_000])
        here.bmc.sh(f"curl -sf --interface {BMC} -C - -o {out}/curl.iso '{url}'")
        (out / "wget.iso").write_bytes(whole[:1])
        here.bmc.sh(f"wget -q --bind-address={BMC} -c -O {out}/wget.iso '{url}'")
        for name in ("curl.iso", "wget.iso"):
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == wanted, name
        head = here.bmc.sh(f"curl -sfI --interface {BMC} '{url}'").lower()
        assert "accept-ranges: bytes" in head and f"content-length: {len(whole)}" in head
        (row,) = rows(here)
        assert (row["used"], row["peers"], row["state"]) == (1, [BMC], "good")


@isolated
@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_qemu_reads_it_by_ranges_as_a_bmc_does(tmp_path: Path, medium: Medium) -> None:
    with scene(tmp_path) as here:
        url = here.link("--medium", medium)
        here.bmc.sh(f"ip addr del {BMC}/24 dev eth0; ip addr del {OTHER}/24 dev eth0")
        image = json.dumps({"driver": "raw", "file": {"driver": "http", "url": url}})
        here.bmc.sh(f"qemu-img convert -O raw 'json:{image}' {tmp_path}/by-qemu")
        here.bmc.sh(f"curl -sf -o {tmp_path}/by-curl '{url}'")
        assert (tmp_path / "by-qemu").read_bytes() == (tmp_path / "by-curl").read_bytes()
        assert CANARY in (tmp_path / "by-qemu").read_bytes()
        (row,) = rows(here)
        assert (row["used"], row["peers"]) == (1, ["10.0.0.11"])
        entries = cli(here.state, "audit", "--json").json
        released = [entry for entry in entries if entry["event"] == "decision" and entry["link"] == row["id"]]
        assert released and {entry["answer"] for entry in released} == {"released"}


@isolated
def test_a_link_ends(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        used, revoked, changed = here.link(), here.link(), here.link("--uses", "2")
        assert here.status(used) == 200
        assert here.status(used, "-r", "5-99") == 206 and here.status(used, peer=OTHER) == 404
        assert here.status(revoked, "-I") == 200
        assert cli(here.state, "link", "revoke", str(rows(here)[1]["id"])).code == 0
        assert here.status(revoked) == 404
        assert here.status(changed, "-r", "0-99999") == 206
        (tmp_path / "token").write_bytes(b"another-token-of-node1")
        assert cli(here.state, "credential", "set", "node1", "token", "--file", tmp_path / "token").code == 0
        assert here.status(changed, "-r", "100000-") == 410, "it is never a mix of two seeds"
        assert here.status(changed, peer=OTHER) == 410
        assert here.status(here.link()) == 200


@isolated
def test_a_running_use_survives_the_service(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml=f"{TOML}links = true\n")
    with lan("eth1", "10.0.0.1/24", f"{BMC}/24", MAC1) as bmc:
        bmc.sh(f"ip addr add {OTHER}/24 dev eth0")
        with serve(state) as served:
            served.wait_for("serving network 'mgmt'")
            url = cli(state, "link", "node1", "--json").json["urls"][0]
            bmc.sh(f"curl -sf --interface {BMC} -r 0-299999 -o {tmp_path}/part.iso '{url}'")
            assert served.stop(9) == -9
        with serve(state, tmp_path / "again.log") as served:
            served.wait_for("serving network 'mgmt'")
            refused = bmc.sh(f"curl -s -o /dev/null -w '%{{http_code}}' --interface {OTHER} '{url}'")
            assert refused == "404"
            bmc.sh(f"curl -sf --interface {BMC} -C - -o {tmp_path}/part.iso '{url}'")
            bmc.sh(f"curl -sf --interface {BMC} -o {tmp_path}/whole.iso '{url}'")
            assert (tmp_path / "part.iso").read_bytes() == (tmp_path / "whole.iso").read_bytes()


@isolated
def test_no_listener_honours_links_unasked(tmp_path: Path) -> None:
    with scene(tmp_path, links=False) as here:
        assert "links = true" in cli(here.state, "link", "node1").err
        assert here.status(f"http://10.0.0.1:8080/b/{'0' * 26}.iso") == 404
