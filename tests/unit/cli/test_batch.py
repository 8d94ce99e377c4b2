"""Media of many hosts at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from provision.errors import Exit
from tests.helpers.cli_runner import cli, good


def test_a_batch_has_a_manifest_and_resumes(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    rows = good(cli(state, "iso", "--selector", "rack=a", "--out", out, "--json")).json
    assert [row["host"] for row in rows] == ["node1", "node2"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == {"format": 1, "hosts": rows}
    for row in rows:
        assert hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert (row["decision"], len(row["macs"])) == ("released", 1)
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    (out / "node2.iso").write_bytes(b"cut short")
    text = good(cli(state, "iso", "--selector", "rack=a", "--out", out)).out
    assert "node1: node1.iso is up to date" in text
    assert "node2: wrote node2.iso" in text
    assert (out / "node1.iso").stat().st_ino == before["node1.iso"]
    (out / "manifest.json").write_text("{broken")
    assert good(cli(state, "iso", "--selector", "rack=a", "--out", out, "--json")).json == rows


def test_a_batch_names_who_was_denied(state: Path, tmp_path: Path) -> None:
    good(cli(state, "credential", "remove", "node2", "token"))
    ran = cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "batch")
    assert ran.code == Exit.DENIED
    rows = {row["host"]: row for row in json.loads((tmp_path / "batch" / "manifest.json").read_text())["hosts"]}
    assert (rows["node2"]["decision"], rows["node2"]["file"]) == ("denied", None)
    assert "token" in rows["node2"]["reason"]
    assert rows["node1"]["decision"] == "released"
