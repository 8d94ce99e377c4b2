from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from provision.errors import Problems
from provision.inventory.files import MAX_ATTACHMENT, load
from provision.inventory.parse import parse
from tests.helpers.inventory_samples import HOSTS, NOW, SITE, certificate


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


def test_a_path_that_is_too_long_is_one_problem() -> None:
    with pytest.raises(Problems) as raised:
        load([Path("x" * 300)])
    (problem,) = raised.value.problems
    assert str(problem).endswith("x: cannot be read (File name too long); look at the path")


def test_everything_unreadable_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    os.mkfifo(tmp_path / "site" / "pipe.yaml")
    (tmp_path / "site.yaml").write_text(SITE)
    with pytest.raises(Problems) as raised:
        load([tmp_path / "site.yaml", tmp_path / "gone.yaml", tmp_path / "site", Path("/dev/zero")])
    said = [str(p) for p in raised.value.problems]
    assert len(said) == 3
    assert "/dev/zero: cannot be read (not a regular file)" in said[0]
    assert "gone.yaml: cannot be read (No such file" in said[1]
    assert "pipe.yaml: cannot be read (not a regular file)" in said[2]


def _piped(content: bytes) -> tuple[int, threading.Thread]:
    """The end of a pipe from which this comes, in full only while somebody reads it."""
    read, write = os.pipe()

    def fill() -> None:
        with os.fdopen(write, "wb") as pipe, suppress(BrokenPipeError):
            pipe.write(content)

    thread = threading.Thread(target=fill)
    thread.start()
    return read, thread


def test_a_pipe_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate()
    (tmp_path / "ca.pem").write_text(pem)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HOSTS.encode())))
    read, thread = _piped((SITE + "  ca_certificate_files: [ca.pem]\n").encode())
    sources = load([Path("-"), Path(f"/dev/fd/{read}")])
    os.close(read)
    thread.join()
    assert [source.name for source in sources] == ["standard input", f"/dev/fd/{read}"]
    assert parse(sources, NOW).site.ca_certificates == (pem,)


def test_a_pipe_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.inventory.files.MAX_BYTES", 1 << 20)
    read, thread = _piped(b"#" * (2 << 20))
    with pytest.raises(Problems) as raised:
        load([Path(f"/dev/fd/{read}")])
    os.close(read)
    thread.join()
    assert "cannot be read (larger than 1 MiB)" in str(raised.value)


def test_unreadable_certificates_hide_no_other_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.pem").write_bytes(b"x" * (MAX_ATTACHMENT + 1))
    (tmp_path / "site.yaml").write_text(
        "site:\n  domain: a.7\n  networks: {}\n  relam: A\n  ca_certificate_files:\n"
        "  - no.pem\n  - pipe\n  - large.pem\n"
    )
    with pytest.raises(Problems) as raised:
        parse(load([tmp_path / "site.yaml"]), NOW)
    said = [(p.line, p.fact) for p in raised.value.problems]
    assert said == [
        (2, "'a.7' ends in a number, so names in it could be read as addresses"),
        (4, "unknown key 'relam'"),
        (6, "the certificate file 'no.pem' is not there, or cannot be read"),
        (7, "the certificate file 'pipe' is not there, or cannot be read"),
        (8, "the certificate file 'large.pem' is not there, or cannot be read"),
    ]
