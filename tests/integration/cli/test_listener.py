"""The API's own listener, its CA and its tokens, with the command line as their client."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good, run
from tests.helpers.serving import serve
from tests.helpers.site_fixture import CANARY, LONG_FILES, closed_site


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_a_server_is_set_up_and_asked_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    state, port = closed_site(tmp_path, toml=""), free_port()
    made = good(cli(state, "init", "--ca", "--address", "127.0.0.1", "--json")).json
    (state / "provision.toml").write_text(f"{LONG_FILES}{made['settings']}port = {port}\n")
    url = f"https://127.0.0.1:{port}"
    with serve(state) as served:
        served.wait_for("serving the operators' API at")
        token = cli(state, "token", "create", "laptop", "--role", "operator", "--json").json["token"].encode()
        pins = [row["sha256"] for row in cli(state, "ca", "show", "--json").json if row["what"] == "CA"]
        assert pins[0] in failed(run("--server", url, "login", stdin=token), Exit.DENIED)
        good(run("--server", url, "login", "--fingerprint", pins[0], stdin=token))
        assert "node1" in good(run("--server", url, "host", "list")).out
        good(run("--server", url, "iso", "node1", "-o", "node1.iso"))
        assert CANARY in (tmp_path / "node1.iso").read_bytes()
        good(cli(state, "ca", "renew"))
        served.wait_for("certificates for TLS read", count=2)
        assert "node1" in good(run("--server", url, "host", "list")).out, "its CA is the same"
        good(cli(state, "ca", "export", "-o", "ca.pem"))
        good(run("--server", url, "login", "--ca", "ca.pem", stdin=token))
        good(cli(state, "token", "revoke", "laptop"))
        assert "does not accept your token" in failed(run("--server", url, "host", "list"), Exit.DENIED)
        assert token.decode() not in served.log
