"""Kerberos as operators use it: a ticket of a real KDC, and curl."""

from __future__ import annotations

import json

import pytest

from tests.helpers.kdc import Realm
from tests.helpers.kerberos_site import KerberosSite
from tests.helpers.site_fixture import CANARY

pytestmark = pytest.mark.integration


def test_a_ticket_is_somebody(site: KerberosSite, here: Realm) -> None:
    status, header, body = site.curl(here.kinit("alice"), "/v1/principal")
    assert status == 200, (header, body)
    told = json.loads(body)
    assert (told["name"], told["role"], told["authentication"]) == ("alice@EXAMPLE.TEST", "admin", "kerberos")
    assert "www-authenticate: negotiate " in header, "the server has to prove who it is, too"
    assert CANARY in site.curl(here.kinit("alice"), "/v1/hosts/node1/iso")[2]
