"""The parts of the host image's enrolment that need no TPM: where it asks, what it sends of a log, what it says."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.tpm import event_log
from provision.tpm.event_log import EventType
from tests.helpers.enrolment import PROGRAM
from tests.helpers.firmware_log import BOOT, LOG, SHA1, SHA256, header

pytestmark = pytest.mark.integration

SHA384 = 12


def test_a_log_is_sent_short_and_says_the_same(tmp_path: Path) -> None:
    """With three digests of each event, as machines have them, and the long data that Secure Boot's lists are."""
    parts = [header(((SHA1, 20), (SHA256, 32), (SHA384, 48)))]
    for pcr, kind, data in (*BOOT, (0, EventType.NO_ACTION, b"x" * 9)):
        digests = [(SHA1, "sha1"), (SHA256, "sha256"), (SHA384, "sha384")]
        named = b"".join(struct.pack("<H", number) + hashlib.new(name, data).digest() for number, name in digests)
        parts.append(struct.pack("<III", pcr, kind, 3) + named + struct.pack("<I", len(data)) + data)
    (tmp_path / "log").write_bytes(b"".join(parts))
    short = PROGRAM.short_log(str(tmp_path / "log"))
    ours, theirs = event_log.parse(short, "short"), event_log.parse(b"".join(parts), "whole")
    assert event_log.replay(ours) == event_log.replay(theirs) == event_log.replay(event_log.parse(LOG, "log"))
    assert [one.data for one in ours] == [BOOT[0][2], BOOT[1][2], b"", b""], "only what the server looks at"
    assert len(short) < len(LOG) / 5
    assert PROGRAM.short_log(str(tmp_path / "nothing")) == b""


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\x30\x82\x00\x05hello" + b"\xff" * 90, b"\x30\x82\x00\x05hello"),
        (b"\x30\x82\x00\x05hel", b""),
        (b"\x30\x82\x08\x00" + bytes(4000), b""),
        (b"", b""),
        (b"\xff" * 100, b""),
    ],
)
def test_a_certificate_is_sent_without_its_padding(content: bytes, shown: bytes) -> None:
    assert PROGRAM._without_padding(content) == shown


@pytest.mark.parametrize(
    ("arguments", "about", "url"),
    [
        ("quiet provision.enroll=http://192.0.2.1:8080 panic=10", None, "http://192.0.2.1:8080"),
        ("quiet", {"alive": {"url": "http://192.0.2.2/alive"}}, "http://192.0.2.2"),
        ("provision.enroll=http://192.0.2.1", {"alive": {"url": "http://192.0.2.2/alive"}}, "http://192.0.2.1"),
        ("quiet", {"host": "node1"}, None),
        ("quiet", None, None),
    ],
)
def test_it_asks_where_it_was_told(tmp_path: Path, arguments: str, about: Any, url: str | None) -> None:
    (tmp_path / "cmdline").write_text(f"{arguments}\n")
    if about is not None:
        (tmp_path / "host.json").write_text(json.dumps(about))
    places: dict[str, Any] = {"_CMDLINE": str(tmp_path / "cmdline"), "_ABOUT": str(tmp_path / "host.json")}
    with patch.multiple(PROGRAM, **places):
        assert PROGRAM.server() == url


def test_a_fingerprint_is_shown_on_two_lines() -> None:
    lines = PROGRAM.grouped("0123456789abcdef" * 4)
    assert [line.split() for line in lines] == [["01234567", "89abcdef"] * 2] * 2


@pytest.mark.parametrize("url", ["https://192.0.2.1", "file:///etc/passwd", "http://", "192.0.2.1"])
def test_it_asks_servers_by_http_alone(url: str) -> None:
    with pytest.raises(PROGRAM.Refused, match="is not the URL of a server"):
        PROGRAM.post(url, "/enroll/begin", {})
