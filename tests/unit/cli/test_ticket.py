"""What the Kerberos library says, as an operator can act on it."""

from __future__ import annotations

import httpx
import pytest

from provision import gssapi
from provision.cli.ticket import ByTicket
from provision.errors import Denied, ProvisionError, Unavailable

URL = "https://prov.example.test:8443"


def refused(monkeypatch: pytest.MonkeyPatch, said: str) -> ProvisionError:
    def initiator(host: str) -> None:
        assert host == "prov.example.test"
        raise gssapi.Failure(said)

    monkeypatch.setattr(gssapi, "Initiator", initiator)
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), auth=ByTicket(URL)) as http,
        pytest.raises(ProvisionError) as caught,
    ):
        http.get(URL)
    return caught.value


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("SPNEGO cannot find mechanisms to negotiate", "you have no Kerberos ticket; run 'kinit', and see 'klist'"),
        ("No Kerberos credentials available (default cache: KEYRING:x)", "you have no Kerberos ticket; run 'kinit'"),
        ("Ticket expired", "your Kerberos ticket has expired; run 'kinit'"),
        ("Clock skew too great", "the clocks of this machine and of the KDC differ too much; set the clock"),
        ("Server HTTP/192.0.2.1@A not found in Kerberos database", "Kerberos knows no such server; use the name"),
        ("Cannot contact any KDC for realm 'A'", "no KDC of its realm can be reached; check the network"),
        ('Cannot find KDC for realm "A"', "no KDC of its realm can be reached"),
    ],
)
def test_it_has_a_way_out(monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    error = refused(monkeypatch, said)
    assert isinstance(error, Denied) and str(error).startswith(f"{URL}: {told}")


def test_what_nobody_foresaw_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(monkeypatch, "The sky is falling")
    assert isinstance(error, Unavailable) and "Kerberos does not work (The sky is falling)" in str(error)
