from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.errors import Problems
from provision.host import Addressing, Netboot, Storage
from provision.inventory import parse as parse_module
from provision.inventory.parse import Source, parse
from provision.site import Inventory, Network
from tests.helpers.inventory_samples import HOSTS, NOW, SITE, certificate, host, lines, problems, read


def test_one_file_and_several_say_the_same() -> None:
    found = read(SITE + HOSTS)
    assert found == read(SITE, HOSTS) == read(HOSTS, SITE)
    assert [h.name for h in found.hosts] == ["node1", "node2"]
    assert found.hosts[0].primary.ipv4 == IPv4Address("10.0.0.11")
    assert found.hosts[0].macs == ("52:54:00:00:00:01",)


def test_hosts_are_sorted_whatever_the_files_order() -> None:
    first, second = HOSTS.removeprefix("hosts:\n").split("  node2:")
    assert read(SITE, f"hosts:\n  node2:{second}{first}") == read(SITE, HOSTS)


LAYERS = f"""{SITE}\
  defaults:
    labels: {{a: default, b: default, c: default}}
    credentials: [keytab]
    storage: none
    interfaces:
      mgmt: {{network: mgmt, addressing: dhcp, mtu: 1500}}
  groups:
    one:
      labels: {{b: one, c: one}}
      credentials: [token]
      netboot: never
    two:
      labels: {{c: two}}
      netboot: always
      interfaces:
        extra: {{vlan: 20}}
    bare:
      interfaces:
        extra:
"""


def test_layers_merge_in_order_and_lists_replace() -> None:
    (found,) = read(
        LAYERS, "hosts:\n  n:\n    groups: [one, two]\n    interfaces:\n"
        "      mgmt: {mac: 52:54:00:00:00:01}\n      extra: {mac: 52:54:00:00:00:02}\n    labels: {d: own}\n"
    ).hosts  # fmt: skip
    assert found.labels == {"a": "default", "b": "one", "c": "two", "d": "own"}
    assert found.credentials == ("token",)
    assert (found.netboot, found.storage) == (Netboot.ALWAYS, Storage.NONE)
    assert list(found.interfaces) == ["mgmt", "extra"]
    assert found.interfaces["mgmt"].addressing is Addressing.DHCP
    assert found.interfaces["extra"].vlan == 20


def test_order_of_groups_counts_and_null_takes_away() -> None:
    (found,) = read(
        LAYERS, "hosts:\n  n:\n    groups: [two, one, bare]\n    credentials: ~\n    labels: {b: }\n"
        "    interfaces:\n      mgmt: {mac: 52:54:00:00:00:01}\n"
    ).hosts  # fmt: skip
    assert found.labels == {"a": "default", "c": "one"}
    assert found.credentials == ()
    assert found.netboot is Netboot.NEVER
    assert list(found.interfaces) == ["mgmt"]


def test_an_inherited_interface_without_a_mac_is_missing_at_the_host() -> None:
    found = lines(LAYERS, "hosts:\n  n:\n    groups: [two]\n    interfaces:\n      mgmt: {mac: 52:54:00:00:00:01}\n")
    assert found == ["b.yaml:4: hosts.n.interfaces.extra.macs: 'macs' is missing; add it"]


def test_a_short_mac_replaces_inherited_macs() -> None:
    (found,) = read(
        LAYERS.replace("extra: {vlan: 20}", "mgmt: {macs: [52:54:00:00:00:0a]}"),
        "hosts:\n  n:\n    groups: [two]\n    interfaces:\n      mgmt: {mac: 52-54-00-00-00-0B}\n",
    ).hosts
    assert found.macs == ("52:54:00:00:00:0b",)
    assert "both 'mac' and 'macs'" in lines(SITE, host(n="{mac: 52:54:00:00:00:01, macs: [52:54:00:00:00:01]}"))[0]


def test_mistakes_in_layers_are_said_once_and_where_they_stand() -> None:
    layers = SITE + (
        "  defaults:\n    netboot: perhaps\n    interfaces: {mgmt: {vlan: q}}\n"
        "  groups:\n    unused: {storage: tape, interfaces: {x: {mtu: 3}}}\n"
    )
    found = [(p.file, p.line, p.path) for p in problems(layers, HOSTS)]
    assert found == [
        ("a.yaml", 22, "site.defaults.netboot"),
        ("a.yaml", 23, "site.defaults.interfaces.mgmt.vlan"),
        ("a.yaml", 25, "site.groups.unused.interfaces.x.mtu"),
        ("a.yaml", 25, "site.groups.unused.storage"),
    ]


def test_everything_is_reported_at_once() -> None:
    site = SITE.replace("realm:", "relam:").replace("office:", "office:\n      colour: red")
    hosts = HOSTS + (
        "    netbot: always\n    groups: [rack]\n    credentials: [keytap]\n"
        "  node3:\n    interfaces:\n      a: {mac: 52:54:00:00:00:01, network: mgnt, addressing: static}\n"
        "  node4:\n    interfaces:\n      a: {mac: bad}\n    kernel_arguments: [initrd=x]\n"
        "  node4: {}\n"
    )
    said = "\n".join(lines(site, hosts, host("node1", a="{mac: 52:54:00:00:00:33}")))
    for words in (
        "a.yaml:3: site.relam: unknown key 'relam'; did you mean 'realm'?",
        "a.yaml:12: site.networks.office.colour: unknown key 'colour'",
        "b.yaml:16: hosts.node2.netbot: unknown key 'netbot'; did you mean 'netboot'?",
        "b.yaml:17: hosts.node2.groups.0: unknown group 'rack'",
        "b.yaml:18: hosts.node2.credentials.0: no credential 'keytap' is in the site; did you mean 'keytab'?",
        "b.yaml:21: hosts.node3.interfaces.a.macs.0: the MAC 52:54:00:00:00:01 is already that of node1",
        "b.yaml:21: hosts.node3.interfaces.a.network: no network 'mgnt' is in the site; did you mean 'mgmt'?",
        "b.yaml:21: hosts.node3.interfaces.a.addressing: static addressing without an address",
        "b.yaml:24: hosts.node4.interfaces.a.macs.0: 'bad' is not a MAC address",
        "b.yaml:26: hosts.node4: 'node4' is written twice, first in line 22",
        "c.yaml:2: hosts.node1: the host is also in b.yaml:2; keep one of them",
    ):
        assert words in said, f"{words}\nnot in\n{said}"


def test_a_broken_site_hides_no_problem_and_invents_none() -> None:
    site = SITE.replace("prefix: 10.0.0.0/24", "prefix: 10.0.0.0/240").replace("path: /etc/token", "path: token")
    hosts = HOSTS + "    credentials: [token]\n    kernel_arguments: [BOOTIF=1]\n"
    assert [p.path for p in problems(site, hosts)] == [
        "site.networks.mgmt.prefix",
        "site.credentials.token.path",
        "hosts.node2.kernel_arguments.0",
    ]


def test_sites_none_and_two() -> None:
    assert lines(HOSTS) == ["inventory: no file has a 'site'; write 'site:' in one of them"]
    assert lines(SITE, SITE) == ["b.yaml:1: site: the site is also in a.yaml:1; keep it in one file"]
    assert lines() == ["inventory: no file has a 'site'; write 'site:' in one of them"]
    assert "site: must be a mapping" in lines("site: x\n")[0]
    assert {p.path for p in problems("site: {}\n")} == {"site.domain", "site.networks"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must be a mapping"),
        ("sites: {}\n", "sites: unknown key 'sites'; did you mean 'site'?"),
        ("hosts: [a]\n", "hosts: must be a mapping"),
        ("hosts: {n: [a]}\n", "hosts.n: must be a mapping"),
        ("hosts: {n: }\n", "hosts.n.interfaces: 'interfaces' is missing"),
        ("hosts: {n: {}}\n", "hosts.n.interfaces: 'interfaces' is missing"),
        ("hosts: {n: {interfaces: {}}}\n", "hosts.n.interfaces: has too few entries"),
        ("hosts: {N_1: {interfaces: {a: {mac: 52:54:00:00:00:09}}}}\n", "hosts.N_1: 'N_1' is not allowed; a name has"),
        ("hosts: {n: {groups: g, interfaces: {a: {mac: 52:54:00:00:00:09}}}}\n", "hosts.n.groups: must be a list"),
    ],
)
def test_shapes(text: str, said: str) -> None:
    (found,) = lines(SITE, text)
    assert found.startswith("b.yaml:1: ") and said in found


def test_a_file_without_hosts_is_fine() -> None:
    assert read(SITE, "hosts:\n").hosts == ()


def test_certificates_as_text_and_from_files() -> None:
    one, two = certificate("One"), certificate("Two")
    block = "".join(f"      {line}\n" for line in one.splitlines())
    text = f"{SITE}  ca_certificates:\n    - |\n{block}  ca_certificate_files: [b.pem]\n"
    source = Source("s.yaml", text.encode(), {"b.pem": (two + one).encode()})
    assert parse([source], NOW).site.ca_certificates == (one, two)
    bad = certificate(ca=False)
    with pytest.raises(Problems) as raised:
        parse([Source("s.yaml", text.replace("[b.pem]", "[b.pem, c.pem]").encode(), {"b.pem": bad.encode()})], NOW)
    said = [str(p) for p in raised.value.problems]
    assert len(said) == 2
    assert "site.ca_certificate_files.0: 'CN=Example CA' is not a CA certificate" in said[0]
    assert "site.ca_certificate_files.1: the certificate file 'c.pem' is not there" in said[1]
    assert "must be a list" in lines(SITE + "  ca_certificates: x\n")[0]
    assert "must be a list" in lines(SITE + "  ca_certificate_files: x\n")[0]
    assert "ca_certificates.0: must be" in lines(SITE + "  ca_certificates: [[a]]\n")[0]


def test_time_servers_are_addresses_where_they_look_like_ones() -> None:
    servers = 'vlan: 10\n      ntp: [10.0.0.2, "2001:db8::1", ntp.a.test]'
    network = read(SITE.replace("vlan: 10", servers)).site.networks["mgmt"]
    assert network.ntp == (IPv4Address("10.0.0.2"), IPv6Address("2001:db8::1"), "ntp.a.test")
    assert Network.model_validate_json(network.canonical()) == network


def test_files_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_module, "MAX_BYTES", len(SITE) + len(HOSTS) - 1)
    assert "larger than" in lines(SITE, HOSTS)[0]


_WORDS = st.sampled_from(
    """site hosts defaults groups interfaces mac macs network networks mgmt role management prefix 10.0.0.0/24 n1 domain
    a.test addressing static dhcp ipv4 10.0.0.5 vlan 5 ca_certificates ca_certificate_files credentials labels name
    routes to via pool first last uuid kernel_arguments ip=x servers freeipa hosts srv ~ 52:54:00:00:00:01""".split()  # noqa: SIM905
)
_TREES = st.recursive(
    _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(_WORDS, inner, max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{k}: {v}" for k, v in pairs.items()) + "}"
        )
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_TREES, min_size=1, max_size=2), st.booleans())
def test_any_tree_gives_an_inventory_or_problems(texts: list[str], with_site: bool) -> None:
    sources = [Source(f"f{i}", text.encode()) for i, text in enumerate(texts)]
    _parses([*sources, Source("s", SITE.encode())] if with_site else sources)


@settings(max_examples=200, deadline=None)
@given(_TREES, _TREES, _TREES)
def test_any_site_and_host_give_an_inventory_or_problems(defaults: str, groups: str, one: str) -> None:
    text = f"{SITE}  defaults: {defaults}\n  groups: {groups}\nhosts:\n  a: {one}\n  b: {{interfaces: {one}}}\n"
    _parses([Source("f", text.encode())])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_inventory_or_problems(text: bytes) -> None:
    _parses([Source("f", text), Source("s", SITE.encode())])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SITE + HOSTS) - 1), st.sampled_from(list(":{}[]-'\"&*!|>#~ \n\tx0")), st.booleans())
def test_any_damaged_character_gives_an_inventory_or_problems(at: int, new: str, insert: bool) -> None:
    text = SITE + HOSTS
    _parses([Source("f", (text[:at] + new + text[at + (not insert) :]).encode())])


def _parses(sources: list[Source]) -> None:
    try:
        assert isinstance(parse(sources, NOW), Inventory)
    except Problems as error:
        assert error.problems
        assert all(str(p).isprintable() and p.fact for p in error.problems)
