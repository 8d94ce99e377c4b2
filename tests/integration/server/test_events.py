"""Events of machines on real LANs: a MAC that is there twice."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.helpers.cli_runner import cli
from tests.helpers.netns import isolated, lan
from tests.helpers.serving import serve
from tests.helpers.site_fixture import MAC1, MAC2, closed_site

TOML = """\
[[listen]]
network = "mgmt"
interface = "eth1"
http_port = 8080
tftp = false

[[listen]]
network = "office"
interface = "eth2"
http_port = 8080
tftp = false
"""


def entries(state: Path, event: str) -> list[dict[str, Any]]:
    found: Any = cli(state, "audit", "--json", "--limit", "1000").json
    return [entry for entry in found if entry["event"] == event]


@isolated
def test_a_mac_on_two_networks_is_seen(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml=TOML)
    with ExitStack() as stack:
        host = stack.enter_context(lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1))
        other = stack.enter_context(lan("eth2", "10.1.0.1/24", "10.1.0.11/24", MAC1))
        served = stack.enter_context(serve(state))
        served.wait_for("serving network 'office'")
        served.wait_for("serving network 'mgmt'")
        host.sh("curl -s http://10.0.0.1:8080/http-boot/boot.iso | wc -c")
        assert entries(state, "duplicate-mac") == []
        other.sh("curl -s http://10.1.0.1:8080/http-boot/boot.iso | wc -c")
        (entry,) = entries(state, "duplicate-mac")
        assert (entry["host"], entry["mac"], entry["network"]) == ("node1", MAC1, "office")
        assert "it asked on network mgmt, too" in entry["reason"]
        served.wait_for("provision.events: duplicate-mac")


@isolated
def test_two_machines_on_two_networks_are_no_event(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml=TOML)
    with ExitStack() as stack:
        host = stack.enter_context(lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1))
        other = stack.enter_context(lan("eth2", "10.1.0.1/24", "10.1.0.12/24", MAC2))
        served = stack.enter_context(serve(state))
        served.wait_for("serving network 'office'")
        served.wait_for("serving network 'mgmt'")
        for _ in range(2):
            host.sh("curl -s http://10.0.0.1:8080/http-boot/boot.iso | wc -c")
            other.sh("curl -s http://10.1.0.1:8080/http-boot/boot.iso | wc -c")
        assert entries(state, "duplicate-mac") == []
