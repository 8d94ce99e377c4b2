"""Names, resolver, time and Kerberos files, parsed back."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given

from provision.errors import Invalid
from provision.host import Host
from provision.render import identity
from provision.site import CredentialKind, CredentialSpec, Server, Servers, Service, Site
from tests.helpers.rendering import HOSTS, SITE, SMUGGLED, domains, golden, host, names, nic


def lines(text: bytes) -> list[list[str]]:
    return [line.split() for line in text.decode("ascii").splitlines() if line]


@pytest.mark.parametrize("name", ["dhcp", "static"])
def test_golden(name: str) -> None:
    files = identity.files(HOSTS[name], SITE)
    text = b"".join(b"# " + path.encode() + b"\n" + data + b"\n" for path, data in sorted(files.items()))
    golden(f"identity/{name}.txt", text)


def test_a_static_host_knows_its_own_address_and_its_resolvers() -> None:
    files = identity.files(HOSTS["static"], SITE)
    assert ["10.20.0.7", "node7.example.org", "node7"] in lines(files["/etc/hosts"])
    assert ["10.20.0.5", "ipa1.example.org"] in lines(files["/etc/hosts"])
    assert b"ipa2" not in files["/etc/hosts"]
    assert lines(files["/etc/resolv.conf"]) == [
        ["search", "example.org"],
        ["nameserver", "10.20.0.2"],
        ["nameserver", "2001:db8:20::2"],
    ]
    assert b"DNS=10.20.0.2 2001:db8:20::2\n" in files["/etc/systemd/resolved.conf.d/provision.conf"]


def test_a_dhcp_host_is_told_its_resolvers_by_dhcp() -> None:
    files = identity.files(HOSTS["dhcp"], SITE)
    assert ["127.0.1.1", "node7.example.org", "node7"] in lines(files["/etc/hosts"])
    assert "/etc/resolv.conf" not in files
    assert lines(files["/etc/systemd/timesyncd.conf.d/provision.conf"])[1] == ["NTP=10.20.0.3", "ntp.example.org"]


def test_a_host_with_ipv6_only_goes_by_that_address() -> None:
    only = {"macs": (nic(1),), "network": "mgmt", "addressing": "static", "ipv6": "2001:db8:20::7"}
    assert ["2001:db8:20::7", "node7.example.org", "node7"] in lines(
        identity.files(host(mgmt=only), SITE)["/etc/hosts"]
    )


def test_the_c_library_reads_three_name_servers_at_most() -> None:
    many = SITE.networks["mgmt"].model_copy(update={"dns": tuple(IPv4Address(f"10.20.0.{n}") for n in range(2, 8))})
    site = SITE.model_copy(update={"networks": {**SITE.networks, "mgmt": many}})
    files = identity.files(HOSTS["static"], site)
    assert files["/etc/resolv.conf"].count(b"nameserver") == 3
    assert len(lines(files["/etc/systemd/resolved.conf.d/provision.conf"])[1]) == 6


REALMS: dict[str, tuple[str, ...]] = {"one": (), "two": ("AD.EXAMPLE.ORG",)}


def test_without_named_servers_kerberos_asks_dns() -> None:
    site = SITE.model_copy(update={"servers": Servers(freeipa=Service(srv="_kerberos._udp"))})
    text = identity.files(HOSTS["dhcp"], site)["/etc/krb5.conf"].decode()
    assert "dns_lookup_kdc = true\n" in text
    assert " kdc = " not in text
    specs = {n: CredentialSpec(kind=CredentialKind.KEYTAB, path="/etc/k", realms=r) for n, r in REALMS.items()}
    named = SITE.model_copy(update={"credentials": specs})
    for name, realms in REALMS.items():
        keytab = HOSTS["dhcp"].model_copy(update={"credentials": (name,)})
        text = identity.files(keytab, named)["/etc/krb5.conf"].decode()
        assert f"dns_lookup_kdc = {'true' if realms else 'false'}\n" in text, "other realms have no KDC in the file"
    assert "/etc/krb5.conf" not in identity.files(HOSTS["dhcp"], SITE.model_copy(update={"realm": None}))


@given(names, domains, domains)
def test_no_valid_name_adds_a_line_or_a_word(name: str, domain: str, server: str) -> None:
    address = IPv4Address("10.20.0.5")
    servers = Servers(freeipa=Service(hosts=(Server(name=server, address=address),)))
    site = SITE.model_copy(update={"domain": domain, "servers": servers})
    files = identity.files(HOSTS["static"].model_copy(update={"name": name}), site)
    assert lines(files["/etc/hostname"]) == [[name]]
    assert lines(files["/etc/hosts"])[4:] == [["10.20.0.7", f"{name}.{domain}", name], ["10.20.0.5", server]]
    assert lines(files["/etc/resolv.conf"])[0] == ["search", domain]
    kerberos = [line for line in lines(files["/etc/krb5.conf"]) if line[0] not in ("[libdefaults]", "[realms]")]
    assert kerberos[5:] == [
        ["EXAMPLE.ORG", "=", "{"],
        ["kdc", "=", server],
        ["admin_server", "=", server],
        ["default_domain", "=", domain],
        ["}"],
        ["[domain_realm]"],
        [f".{domain}", "=", "EXAMPLE.ORG"],
        [domain, "=", "EXAMPLE.ORG"],
    ]


@pytest.mark.parametrize("value", [v for v in SMUGGLED if v])
def test_smuggled_values_are_refused(value: str) -> None:
    server = Servers(freeipa=Service(hosts=(Server.model_construct(name=value, address=IPv4Address("10.0.0.1")),)))
    evil: list[tuple[Host, dict[str, object]]] = [
        (HOSTS["static"].model_copy(update={"name": value}), {}),
        (HOSTS["static"], {"domain": value}),
        (HOSTS["static"], {"realm": value}),
        (HOSTS["static"], {"servers": server}),
        (HOSTS["static"], {"networks": {"mgmt": SITE.networks["mgmt"].model_copy(update={"dns": (value,)})}}),
        (HOSTS["static"], {"networks": {"mgmt": SITE.networks["mgmt"].model_copy(update={"ntp": (value,)})}}),
        (host(mgmt=HOSTS["static"].primary.model_copy(update={"ipv4": value})), {}),
    ]
    for subject, update in evil:
        with pytest.raises(Invalid, match=r"seed/.*\.j2: a value holds"):
            identity.files(subject, SITE.model_copy(update=update))


def test_a_machine_id_follows_from_the_hosts_full_name() -> None:
    def of(name: str = "node7", site: Site = SITE, **fields: Any) -> bytes:
        return identity.files(host(name, **fields), site)["/etc/machine-id"]

    assert re.fullmatch(rb"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n", of())
    nics: dict[str, Any] = {"mgmt": {"macs": (nic(9),), "network": "mgmt", "addressing": "dhcp"}}
    assert of() == of(**nics), "new NICs are no new machine"
    assert len({of(), of("node8"), of(site=SITE.model_copy(update={"domain": "example.net"}))}) == 3
