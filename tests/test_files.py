from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.errors import Problems
from provision.inventory.files import load
from provision.inventory.parse import parse
from tests.inventory_samples import HOSTS, NOW, SITE, certificate


def test_files_and_directories_with_their_certificates(tmp_path: Path) -> None:
    pem = certificate()
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.pem").write_text(pem)
    (tmp_path / "hosts.yaml").write_text(HOSTS)
    (tmp_path / "site.yml").write_text(SITE + "  ca_certificate_files: [pki/ca.pem]\n")
    (tmp_path / "notes.txt").write_text("not YAML: : :")
    sources = load([tmp_path, tmp_path / "hosts.yaml"])
    assert [Path(s.name).name for s in sources] == ["hosts.yaml", "site.yml"]
    assert parse(sources, NOW).site.ca_certificates == (pem,)


def test_everything_unreadable_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("site:\n  ca_certificate_files:\n  - no.pem\n  - pipe\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Problems) as raised:
        load([tmp_path / "site.yaml", tmp_path / "gone.yaml", tmp_path / "pipe"])
    said = [str(p) for p in raised.value.problems]
    assert len(said) == 4
    assert any("gone.yaml: cannot be read (No such file" in line for line in said)
    assert any("pipe: cannot be read (not a regular file)" in line for line in said)
    assert any("site.yaml:3: " in line and "'no.pem' cannot be read" in line for line in said)
    assert any("site.yaml:4: " in line and "not a regular file" in line for line in said)
