"""A machine that becomes a host: its YAML says what its model is, and nothing that was claimed gets into it."""

from __future__ import annotations

import pytest

from provision import clock
from provision.document import Source
from provision.errors import Invalid
from provision.inventory import adoption
from provision.inventory.parse import parse

SITE = """\
site:
  domain: example.test
  networks:
    NET: {role: management, prefix: 10.0.0.0/24, pool: {first: 10.0.0.9, last: 10.0.0.99}}
"""


@pytest.mark.parametrize("network", ["mgmt", "1", "no", "a-network-of-a-very-long-name"])
@pytest.mark.parametrize("name", ["node9", "7", "null", adoption.suggested("52:54:00:00:00:99")])
def test_the_fragment_is_the_host(name: str, network: str) -> None:
    adopted = adoption.host(name, "52:54:00:00:00:99", network)
    text = SITE.replace("NET", f'"{network}"') + adoption.fragment(adopted)
    assert parse([Source("x.yaml", text.encode())], clock.now()).hosts == (adopted,)


@pytest.mark.parametrize(
    ("name", "mac", "network"),
    [
        ("A", "52:54:00:00:00:99", "mgmt"),
        ("a\n  b:", "52:54:00:00:00:99", "mgmt"),
        ("", "52:54:00:00:00:99", "mgmt"),
        ("a", '52:54:00:00:00:99", x: "', "mgmt"),
        ("a", "52:54:00:00:00:99", 'mgmt", credentials: [token], x: "'),
        ("a", "52:54:00:00:00:99", ""),
    ],
)
def test_nothing_else_gets_in(name: str, mac: str, network: str) -> None:
    with pytest.raises(Invalid) as caught:
        adoption.host(name, mac, network)
    assert mac not in str(caught.value)
