"""The parts of the host image's enrolment that need no TPM: where it asks, what it sends of a log, what it says."""

from __future__ import annotations

import errno
import hashlib
import json
import struct
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.tpm import event_log, firmware
from provision.tpm.event_log import EventType
from tests.helpers.enrolment import HOST, LOG_OF, PROGRAM
from tests.helpers.firmware_log import BOOT, LOG, SHA1, SHA256, enforced, header, log_of

SHA384 = 12


def test_a_log_is_sent_short_and_says_the_same(tmp_path: Path) -> None:
    """With three digests of each event, as machines have them, and the long data that Secure Boot's lists are."""
    parts = [header(((SHA1, 20), (SHA256, 32), (SHA384, 48)))]
    for pcr, kind, data in (*BOOT, (0, EventType.NO_ACTION, b"x" * 9)):
        digests = [(SHA1, "sha1"), (SHA256, "sha256"), (SHA384, "sha384")]
        named = b"".join(struct.pack("<H", number) + hashlib.new(name, data).digest() for number, name in digests)
        parts.append(struct.pack("<III", pcr, kind, 3) + named + struct.pack("<I", len(data)) + data)
    (tmp_path / "log").write_bytes(b"".join(parts))
    short = LOG_OF.short(LOG_OF.read(str(tmp_path / "log")))
    ours, theirs = event_log.parse(short, "short"), event_log.parse(b"".join(parts), "whole")
    assert event_log.replay(ours) == event_log.replay(theirs) == event_log.replay(event_log.parse(LOG, "log"))
    assert [one.data for one in ours] == [BOOT[0][2], BOOT[1][2], b"", BOOT[3][2]], "only what the server looks at"
    assert len(short) < len(LOG) / 5
    assert LOG_OF.short(LOG_OF.read(str(tmp_path / "nothing"))) == b""


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
        ("quiet", {"enroll": {"url": "http://192.0.2.3:8080"}}, "http://192.0.2.3:8080"),
        ("provision.enroll=http://192.0.2.1", {"enroll": {"url": "http://192.0.2.3"}}, "http://192.0.2.1"),
        ("quiet", {"host": "node1"}, None),
        ("quiet", None, None),
    ],
)
def test_it_asks_where_it_was_told(tmp_path: Path, arguments: str, about: Any, url: str | None) -> None:
    (tmp_path / "cmdline").write_text(f"{arguments}\n")
    if about is not None:
        (tmp_path / "host.json").write_text(json.dumps(about))
    cmdline, told = str(tmp_path / "cmdline"), str(tmp_path / "host.json")
    with patch.object(PROGRAM, "_CMDLINE", cmdline), patch.object(PROGRAM, "_ABOUT", told):
        assert PROGRAM.server() == url


def test_a_log_is_sent_with_the_certificate_by_which_the_program_was_taken(tmp_path: Path) -> None:
    measured = enforced(b"certificate" * 150)
    (tmp_path / "log").write_bytes(log_of(measured))
    sent = event_log.parse(LOG_OF.short(LOG_OF.read(str(tmp_path / "log"))), "short")
    assert firmware.loader(sent) == hashlib.sha256(b"certificate" * 150).hexdigest()
    (tmp_path / "log").write_bytes(log_of(enforced(b"certificate" * 500)))
    assert firmware.loader(event_log.parse(LOG_OF.short(LOG_OF.read(str(tmp_path / "log"))), "short")) == ""


def test_a_machine_without_a_tpm_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    device = HOST.device
    (tmp_path / "cmdline").write_text("provision.enroll=http://192.0.2.1\n")
    with (
        patch.object(PROGRAM, "_CMDLINE", str(tmp_path / "cmdline")),
        patch.object(PROGRAM.tpm, "device", lambda: device(str(tmp_path / "tpmrm0"))),
        patch.object(PROGRAM, "on_consoles", lambda *lines: said.extend(lines)),
    ):
        PROGRAM.main()
    assert said[0] == "this machine's TPM cannot be enrolled:"
    assert "its kernel knows no TPM 2.0 (No such file or directory); switch it on in the firmware's setup" in said[1]


def test_a_fingerprint_is_shown_on_two_lines() -> None:
    lines = PROGRAM.grouped("0123456789abcdef" * 4)
    assert [line.split() for line in lines] == [["01234567", "89abcdef"] * 2] * 2


def test_it_asks_again_soon_while_it_has_no_network() -> None:
    """The network of a host comes up while its TPM makes keys; a server that does not answer is asked less often."""
    errors = [OSError(errno.ENETUNREACH, "Network is unreachable")] * 2 + [OSError("it answered 503")]
    slept: list[float] = []

    def post(*_: Any) -> dict[str, str]:
        if errors:
            raise errors.pop(0)
        return {"nonce": "00"}

    with patch.object(PROGRAM, "post", post), patch.object(PROGRAM.answers.time, "sleep", slept.append):
        assert PROGRAM.patiently("http://192.0.2.1", "/enroll/begin", {}) == {"nonce": "00"}
        assert slept == [0.5, 0.5, 4]
        errors.append(OSError(errno.ECONNREFUSED, "Connection refused"))
        with patch.object(PROGRAM, "_PATIENCE", -1), pytest.raises(OSError, match="refused"):
            PROGRAM.patiently("http://192.0.2.1", "/enroll/begin", {})


@pytest.mark.parametrize("url", ["https://192.0.2.1", "file:///etc/passwd", "http://", "192.0.2.1"])
def test_it_asks_servers_by_http_alone(url: str) -> None:
    with pytest.raises(PROGRAM.Refused, match="is not the URL of a server"):
        PROGRAM.post(url, "/enroll/begin", {})
