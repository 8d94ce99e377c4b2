"""What a monitoring system sees of a running service, on a socket of its own and by readiness."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.netns import isolated, lan, sh
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import MAC1, closed_site

NETWORK = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\n'


def curl(path: Path, asked: str) -> tuple[int, str]:
    """Status and body of a GET on a Unix socket."""
    argv = ["curl", "--silent", "--unix-socket", str(path), "--write-out", "\n%{http_code}", f"http://provision{asked}"]
    body, _, status = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.rpartition("\n")
    return int(status), body


def metrics(path: Path) -> dict[str, float]:
    families = text_string_to_metric_families(curl(path, "/v1/metrics")[1])
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_metrics_have_a_socket_of_their_own(tmp_path: Path) -> None:
    own = tmp_path / "metrics.sock"
    state = closed_site(tmp_path, toml=f'[metrics]\nsocket = "{own}"\n')
    with serve(state) as served:
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
        first = metrics(own)
        assert first["provision_hosts"] == 3 and first["process_start_time_seconds"] > 0
        for path in ("/v1/hosts", "/v1/hosts/node1/iso", "/v1/openapi.json", "/v1/ready", "/"):
            assert curl(own, path)[0] == 404
        assert curl(state / "operator.sock", "/v1/metrics")[0] == 200
        assert metrics(own)["process_cpu_seconds_total"] >= first["process_cpu_seconds_total"]
        assert served.stop() == 0
        assert "internal error" not in served.log
    assert not own.exists()


def test_a_group_that_does_not_exist_is_told(tmp_path: Path) -> None:
    own = tmp_path / "metrics.sock"
    state = closed_site(tmp_path, toml=f'[metrics]\nsocket = "{own}"\ngroup = "no-such-group"\n')
    with pytest.raises(AssertionError, match=r"metrics\.group: there is no group no-such-group"), serve(state):
        raise RuntimeError("it has started")


@isolated
def test_a_server_is_ready_as_long_as_its_networks_are_served(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml=NETWORK)
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1), serve(state):
        until(state, 200)
        sh("ip link del eth1")
        assert "'mgmt' is not served: " in json.loads(until(state, 503))["detail"]
        (entry,) = json.loads(run(state, "--json", "audit", "--limit", "1").stdout)
        assert (entry["event"], entry["network"]) == ("network-cut", "mgmt") and "eth1" in entry["reason"]
        with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1):
            until(state, 200)


def until(state: Path, status: int) -> str:
    """The answer about readiness as soon as it has that status."""
    deadline = time.monotonic() + 30
    while (found := curl(state / "operator.sock", "/v1/ready"))[0] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found[1]
