"""Which CA is pinned by what a person says of what a server shows, and which token is taken."""

from __future__ import annotations

import io
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from provision.cli import chain, enrolment, servers, trust
from provision.cli.enrolment import Wanted, enter
from provision.cli.servers import Address, Login
from provision.errors import Denied, Invalid, ProvisionError, Unavailable
from provision.secret import Secret
from tests.helpers.authority import Authority
from tests.helpers.cli_runner import Terminal

ADDRESS = Address("a.test", 8443)
ROOT = Authority("of a test")
LEAF = ROOT.issue("a.test", shows_ca=False).chain.decode()


class Reached(Exception):
    """The server was to be judged by this CA."""


def der(*certificates: str) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(one) for one in certificates]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def judged(address: Address, ca: str | None) -> None:
        raise Reached(ca)

    monkeypatch.setattr(trust, "require", judged)


def shows(monkeypatch: pytest.MonkeyPatch, certificates: Sequence[bytes], *, known: bool = False) -> None:
    monkeypatch.setattr(chain, "shown", lambda address: list(certificates))
    monkeypatch.setattr(enrolment, "_is_known", lambda address: known)


def chosen(**wanted: Any) -> str | None:
    """What the server is judged by."""
    with pytest.raises(Reached) as reached:
        enter(ADDRESS, Wanted(**wanted), None)
    ca: str | None = reached.value.args[0]
    return ca


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text))


PEM = ROOT.pem.decode()
BOTH = der(LEAF, PEM)


def test_a_person_pins_what_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shows(monkeypatch, BOTH)
    says(monkeypatch, " pin \n")
    assert chosen() == PEM
    out, err = capsys.readouterr()
    assert (out, f"its CA is 'CN=of a test', with the SHA-256 fingerprint\n  {ROOT.fingerprint}\n" in err) == ("", True)
    assert "'pin'" in err and "'no'" in err and "'system'" not in err


@pytest.mark.parametrize("text", ["", "\n", "y\n", "yes\n", "no\n", "system\n", "PIN\n"])
def test_anything_else_is_no(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    shows(monkeypatch, BOTH)
    says(monkeypatch, text)
    with pytest.raises(
        Denied, match=r"https://a\.test:8443: you have not confirmed its CA; compare its fingerprint with"
    ):
        enter(ADDRESS, Wanted(), None)


def test_the_system_is_offered_when_it_knows_the_ca(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shows(monkeypatch, der(LEAF), known=True)
    says(monkeypatch, "system\n")
    assert chosen() is None
    assert "'pin'" not in capsys.readouterr().err, "no CA is shown that could be pinned"
    says(monkeypatch, "pin\n")
    with pytest.raises(Denied):
        enter(ADDRESS, Wanted(), None)
    assert chosen(system=True) is None


def test_without_a_person_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("pin\n"))
    for certificates, fact in (
        (BOTH, f"fingerprint {ROOT.fingerprint}; compare"),
        (der(LEAF), "does not show its CA;"),
    ):
        shows(monkeypatch, certificates, known=True)
        with pytest.raises(Denied, match=fact):
            enter(ADDRESS, Wanted(), None)


def test_what_is_pinned_stays_until_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers.save(Login(ADDRESS, "the pinned one", Secret(b"token-of-before")))
    other = Authority()
    shows(monkeypatch, der(other.pem.decode()), known=True)
    assert chosen() == "the pinned one"
    assert chosen(fingerprint=other.fingerprint) == other.pem.decode()
    assert chosen(ca=other.file(tmp_path)) == other.pem.decode()
    assert servers.find(ADDRESS).ca == "the pinned one", "it has not proved itself"


@pytest.mark.parametrize("form", ["{}", "SHA256:{}", " {} "])
@pytest.mark.parametrize("separator", [":", ""])
@pytest.mark.parametrize("lower", [False, True])
def test_a_fingerprint_is_read_as_it_is_usually_written(
    monkeypatch: pytest.MonkeyPatch, form: str, separator: str, lower: bool
) -> None:
    shows(monkeypatch, BOTH)
    digits = ROOT.fingerprint.replace(":", separator)
    assert chosen(fingerprint=form.format(digits.lower() if lower else digits)) == PEM


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, f"{'ab:' * 32}", "md5:" + "a" * 64])
def test_what_is_no_fingerprint_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    shows(monkeypatch, BOTH)
    with pytest.raises(Invalid, match="--fingerprint: is not a valid SHA-256"):
        enter(ADDRESS, Wanted(fingerprint=text), None)


VERSION_6 = BOTH[1].replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020105"), 1)


@pytest.mark.parametrize("shown", [[b""], [b"garbage"], [VERSION_6], [BOTH[0], BOTH[1][:-1]]])
def test_what_is_no_certificate_is_an_error(monkeypatch: pytest.MonkeyPatch, shown: list[bytes]) -> None:
    shows(monkeypatch, shown)
    says(monkeypatch, "pin\n")
    with pytest.raises(Unavailable, match="what it shows is not a certificate"):
        enter(ADDRESS, Wanted(), None)


def test_where_a_login_cannot_be_kept_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "provision").mkdir(mode=0o755)
    shows(monkeypatch, BOTH)
    with pytest.raises(ProvisionError, match="is open to other users"):
        enter(ADDRESS, Wanted(ca=ROOT.file(tmp_path)), None)
