"""SSH host keys on the data partition have their names when they are on the disk, so no power cut leaves empty ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.host_programs import load


def made(*command: object) -> None:
    """As ssh-keygen makes a key: two files, and no flush."""
    if command[0] == "ssh-keygen":
        Path(str(command[-1])).write_bytes(b"a private key")
        Path(f"{command[-1]}.pub").write_bytes(b"a public key")


def watch(source: Path, seen: list[set[str]]) -> Callable[[], None]:
    return lambda: seen.append({path.name for path in source.iterdir()})


def test_a_key_is_flushed_before_and_after_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("gpt")
    load("superblock")
    program = load("data")
    source, place, flushed = tmp_path / "kept", tmp_path / "ssh", list[set[str]]()
    place.mkdir()
    monkeypatch.setattr(program, "_run", made)
    monkeypatch.setattr(program, "attach", lambda source, place: None)
    monkeypatch.setattr(program.os, "sync", watch(source, flushed))
    program.keep_ssh_keys(source, place)
    kept: set[str] = set()
    for name in ("ssh_host_ed25519_key", "ssh_host_ecdsa_key"):
        assert flushed[:3] == [kept | {"new", "new.pub"}, kept | {name, "new.pub"}, kept | {name, f"{name}.pub"}]
        kept |= {name, f"{name}.pub"}
        del flushed[:3]
    # The next start makes none.
    program.keep_ssh_keys(source, place)
    assert flushed == []
