"""SSH host keys on the data partition have their names when they are on the disk, so no power cut leaves empty ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.host_programs import load

pytestmark = pytest.mark.integration

NAMES = [f"ssh_host_{kind}_key{half}" for kind in ("ed25519", "ecdsa") for half in ("", ".pub")]


def made(*command: object) -> None:
    """As ssh-keygen makes a key: two files, and no flush."""
    if command[0] == "ssh-keygen":
        Path(str(command[-1])).write_bytes(b"a private key")
        Path(f"{command[-1]}.pub").write_bytes(b"a public key")


def watch(source: Path, seen: list[set[str]]) -> Callable[[], None]:
    return lambda: seen.append({path.name for path in source.iterdir()})


def test_a_key_is_flushed_before_and_after_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("gpt")
    program = load("data")
    source, place, flushed = tmp_path / "kept", tmp_path / "ssh", list[set[str]]()
    place.mkdir()
    monkeypatch.setattr(program, "_run", made)
    monkeypatch.setattr(program.os, "sync", watch(source, flushed))
    program.keep_ssh_keys(source, place)
    first, second, third, fourth = flushed
    assert first == {"new", "new.pub"} and second == set(NAMES[:2])
    assert third == {*NAMES[:2], "new", "new.pub"} and fourth == set(NAMES)
    # The next start makes none.
    program.keep_ssh_keys(source, place)
    assert len(flushed) == 4
