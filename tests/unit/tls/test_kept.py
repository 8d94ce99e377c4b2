"""Certificates follow their files, and a bad pair changes nothing."""

from __future__ import annotations

import logging
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from provision import clock
from provision.tls.kept import Certificates
from tests.helpers.certificates import server, write_pair

NOW = clock.now()


def kept(pair: tuple[Path, Path], now: datetime = NOW) -> Certificates:
    return Certificates([pair], lambda: now)


def looked(certificates: Certificates, times: int = 2) -> ssl.SSLContext | None:
    """The context after so many looks; a change is taken at the second one."""
    for _ in range(times):
        certificates.look()
    return certificates.context


def test_a_new_pair_takes_the_old_ones_place(tmp_path: Path) -> None:
    certificates = kept(write_pair(tmp_path, server()))
    first = certificates.context
    assert looked(certificates) is first and first is not None
    write_pair(tmp_path, server())
    assert looked(certificates, 1) is first, "the other file may be on its way"
    second = looked(certificates, 1)
    assert second is not None and second is not first
    assert certificates.warnings() == [] and looked(certificates, 5) is second


def test_a_bad_pair_keeps_the_old_one_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificates = kept(write_pair(tmp_path, server()))
    first = certificates.context
    (tmp_path / "server.pem").write_bytes(server().pem())
    with caplog.at_level(logging.ERROR):
        assert looked(certificates, 6) is first
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the old certificate stays in use" in caplog.text and "is not the key of" in caplog.text
    (warning,) = certificates.warnings()
    assert "is not the key of" in str(warning)
    write_pair(tmp_path, server())
    assert looked(certificates) is not first
    assert certificates.warnings() == []


def test_two_files_that_are_written_one_after_the_other_are_judged_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates, new = kept(write_pair(tmp_path, server())), server()
    first = certificates.context
    (tmp_path / "server.key").write_bytes(new.key_pem().reveal())
    with caplog.at_level(logging.ERROR):
        looked(certificates, 1)
        (tmp_path / "server.pem").write_bytes(new.pem())
        assert looked(certificates) is not first
    assert caplog.records == []


def test_there_may_be_none_at_first(tmp_path: Path) -> None:
    certificates = kept((tmp_path / "server.pem", tmp_path / "server.key"))
    assert certificates.context is None and "cannot be read" in str(certificates.problem)
    write_pair(tmp_path, server())
    assert looked(certificates) is not None and certificates.problem is None


@pytest.mark.parametrize(("days", "said"), [(31, None), (29, "expires on"), (-1, "has expired on")])
def test_the_end_is_told_before_it_comes(tmp_path: Path, days: int, said: str | None) -> None:
    one = server()
    certificates = kept(write_pair(tmp_path, one), one.certificate.not_valid_after_utc - timedelta(days=days))
    assert certificates.context is not None, "an expired one is better than none"
    found = [str(warning) for warning in certificates.warnings()]
    assert (not found) if said is None else (said in found[0] and "provision ca renew" in found[0])


def test_the_one_client_that_is_let_in_has_a_certificate_that_ends(tmp_path: Path) -> None:
    pair, (client, _) = write_pair(tmp_path, server()), write_pair(tmp_path, server(), "proxy")
    certificates = Certificates([pair], lambda: NOW, client)
    assert certificates.client == ssl.PEM_cert_to_DER_cert(client.read_text().partition("-----END")[0] + END)
    assert certificates.context is not None and certificates.context.verify_mode is ssl.CERT_REQUIRED
    assert certificates.expires is not None and certificates.warnings() == []
    later = Certificates([pair], lambda: NOW + timedelta(days=3650), client)
    (warning,) = later.warnings()
    assert str(warning).startswith("[api.proxy]: the proxy's certificate has expired on")
    client.write_text("no certificate")
    assert looked(certificates) is not None and "is not one certificate" in str(certificates.problem)


END = "-----END CERTIFICATE-----\n"
