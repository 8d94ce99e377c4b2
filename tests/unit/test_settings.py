"""The settings file: every key, and every mistake at once with its key and line."""

from __future__ import annotations

import os
import pwd
from ipaddress import IPv4Address
from pathlib import Path
from typing import NoReturn

import pytest

from provision.errors import Invalid, Problems, Unavailable
from provision.settings import (
    TEMPLATE,
    Settings,
    config_file,
    load,
    parse,
    server,
    state_directory,
    user_directory,
)

STATE = Path("/state")


def problems(text: str) -> dict[str, str]:
    """What is said about each key."""
    with pytest.raises(Problems) as told:
        parse(text.encode(), "provision.toml", STATE)
    return {problem.path: f"{problem.line} {problem.fact}; {problem.remedy}" for problem in told.value.problems}


def test_the_template_is_the_default() -> None:
    assert parse(TEMPLATE.encode(), "provision.toml", STATE) == Settings(state=STATE)
    assert Settings(state=STATE).socket == STATE / "operator.sock"


def test_every_key() -> None:
    text = """
database = "sqlite:///x"
operator_socket = "/run/p.sock"
operator_group = "ops"
max_connections = 64
max_connections_per_peer = 8
header_timeout = 2.5
[[listen]]
network = "mgmt"
interface = "br0.10"
address = "10.0.0.1"
http_port = 8080
tftp = false
tftp_port = 6969
tftp_ports = [30000, 30010]
bridge_ports = ["eth1", "tap0"]
override = { bridge-ports = "a lab only" }
"""
    found = parse(text.encode(), "provision.toml", STATE)
    assert found.socket == Path("/run/p.sock")
    (listen,) = found.listen
    assert (listen.address, listen.tftp_ports, listen.tftp) == (IPv4Address("10.0.0.1"), (30000, 30010), False)
    assert listen.override == {"bridge-ports": "a lab only"}


def test_every_mistake_is_told_at_once() -> None:
    text = (
        'max_conections = 64\nheader_timeout = 0\n[[listen]]\nnetwork = "mgmt"\nhttp_port = 99999\ninterface = "e 1"\n'
    )
    found = problems(text)
    assert set(found) == {"max_conections", "header_timeout", "listen.0.http_port", "listen.0.interface"}
    assert found["max_conections"] == "1 unknown key 'max_conections'; did you mean 'max_connections'?"
    assert found["header_timeout"].startswith("2 ")
    assert found["listen.0.http_port"].startswith("5 ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tftp_ports = [20, 30]", "'20' is too small; the least is 1024"),
        ("tftp_ports = [3000, 2000]", "write the lower port first"),
        ('override = { forwarding = "yes" }', "at least two words"),
        ('override = { forwarding = "" }', "at least two words"),
        ('address = "fe80::1"', "IPv4"),
        ('interface = "a-name-too-long-x"', "at most 15 letters"),
        ('override = { forwardin = "a lab only" }', "'forwardin' is not a start-up refusal; known: wildcard-address, "),
    ],
)
def test_a_network_that_cannot_be(line: str, said: str) -> None:
    interface = "" if line.startswith("interface") else 'interface = "eth1"\n'
    found = problems(f'[[listen]]\nnetwork = "mgmt"\n{interface}{line}\n')
    assert said in " ".join(found.values())


def test_each_mistake_has_its_line_and_hides_no_other() -> None:
    text = """\
state = "/x"
database = 5

[[listen]]  # the first
network = "mgmt"
interface = "eth1"
[listen.override]
forwarding = "why"

[[listen]]
network = "mgmt"
tftp_ports = [
    9999,
    8888,
]
http_port = 0
bridge_ports = ["eth2", "a b"]
override = { default-rout = "a lab only" }
[[listen]]
network = "Office"
interface = "eth3"
[other.table]
key = 1
"""
    found = problems(text)
    assert {path: said.partition(" ")[0] for path, said in found.items()} == {
        "state": "1",
        "database": "2",
        "listen.0.override.forwarding": "8",
        "listen.1.interface": "10",
        "listen.1.network": "11",
        "listen.1.tftp_ports": "12",
        "listen.1.http_port": "16",
        "listen.1.bridge_ports.1": "17",
        "listen.1.override.default-rout": "18",
        "listen.2.network": "20",
        "other": "22",
    }
    assert not [said for said in found.values() if "^" in said or "pattern" in said]
    assert found["listen.1.interface"] == "10 'interface' is missing; add it"
    assert found["listen.1.http_port"] == "16 '0' is too small; the least is 1"


def test_a_network_or_an_interface_is_served_once() -> None:
    block = '[[listen]]\nnetwork = "{}"\ninterface = "{}"\n'
    found = problems(block.format("a", "eth1") + block.format("a", "eth1") + block.format("b", "eth1"))
    assert list(found) == ["listen.1.network", "listen.1.interface", "listen.2.interface"]


@pytest.mark.parametrize("text", [b"x", b"\xff", b"a = [", b'a = "'])
def test_what_is_not_toml(text: bytes) -> None:
    with pytest.raises(Invalid, match="is not TOML"):
        parse(text, "provision.toml", STATE)


def test_the_state_directory_is_no_key() -> None:
    assert "state" in problems('state = "/x"\n')


def test_where_things_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROVISION_STATE", "PROVISION_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert state_directory(None) == Path("/var/lib/provision")
    assert config_file(None, STATE) == STATE / "provision.toml"
    monkeypatch.setenv("PROVISION_STATE", "/other")
    monkeypatch.setenv("PROVISION_CONFIG", "/etc/provision.toml")
    assert (state_directory(None), state_directory(STATE)) == (Path("/other"), STATE)
    assert config_file(None, STATE) == Path("/etc/provision.toml")
    assert config_file(tmp_path, STATE) == tmp_path


def test_which_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROVISION_SERVER", raising=False)
    assert (server(None), server("https://a")) == (None, "https://a")
    monkeypatch.setenv("PROVISION_SERVER", "https://b")
    assert (server(None), server("https://a")) == ("https://b", "https://a")
    monkeypatch.setenv("PROVISION_SERVER", "")
    assert server(None) is None


def test_where_a_user_s_own_settings_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert user_directory() == Path("/somewhere/provision")
    for nothing in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", nothing)
        assert user_directory() == tmp_path / ".config" / "provision"
    monkeypatch.setenv("HOME", "")
    assert user_directory() == Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "provision"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: int) -> NoReturn:
        raise KeyError

    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", none)
    with pytest.raises(Unavailable, match=r"^home directory: user id \d+ has none; set \$HOME or \$XDG_CONFIG_HOME$"):
        user_directory()


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"provision init.*--server"):
        load(tmp_path, tmp_path / "provision.toml")
    with pytest.raises(Unavailable, match="cannot be read"):
        load(tmp_path, tmp_path)


def test_who_may_not_read_the_file_is_told_how_to_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(Unavailable, match=r"toml: cannot be read \(Permission denied\); be root, or join the group"):
        load(tmp_path, tmp_path / "provision.toml")


API = '[api]\naddress = "192.0.2.1"\ncertificate = "tls/server.pem"\nkey = "/etc/ssl/private/prov.key"\n'


def test_the_api_over_tls() -> None:
    found = parse((API + 'names = ["Prov.Example.test.", "2001:DB8::0:1"]\n').encode(), "provision.toml", STATE).api
    assert found is not None
    assert (found.address, found.port) == (IPv4Address("192.0.2.1"), 8443)
    assert found.names == ("prov.example.test", "2001:db8::1")
    assert found.pairs(STATE) == ((STATE / "tls/server.pem", Path("/etc/ssl/private/prov.key")),)
    text = API + 'firmware_certificate = "f.pem"\nfirmware_key = "f.key"\n'
    both = parse(text.encode(), "provision.toml", STATE).api
    assert both is not None and both.pairs(STATE)[1] == (STATE / "f.pem", STATE / "f.key")


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("port = 80", "api.port", "is the port of a boot listener"),
        ("port = 0", "api.port", "the least is 1"),
        ('names = ["prov.example.test:8443"]', "api.names.0", "is not a valid host name; write it without a port"),
        ('names = ["https://prov"]', "api.names.0", "is not a valid host name"),
        ('firmware_key = "f.key"', "api.firmware_key", "has no 'firmware_certificate' beside it"),
        ('firmware_certificate = "f.pem"', "api.firmware_certificate", "has no 'firmware_key' beside it"),
        ("tls = false", "api.tls", "unknown key"),
    ],
)
def test_an_api_that_cannot_be(line: str, key: str, said: str) -> None:
    listen = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\n'
    found = problems(f"{API}{line}\n{listen}")
    assert list(found) == [key] and said in found[key]


def test_an_api_needs_a_certificate_and_its_key() -> None:
    assert set(problems('[api]\naddress = "10.0.0.1x"\n')) == {"api.address", "api.certificate", "api.key"}


WEBHOOK = '[[webhook]]\nname = "{name}"\nurl = "{url}"\nsecret = "k"\n'


@pytest.mark.parametrize(
    "url", ["https://hooks.example.test/a?b=c", "https://192.0.2.1:8443", "http://127.0.0.1:9/x", "http://[::1]:9/"]
)
def test_a_receiver_has_an_https_url_or_is_on_this_machine(url: str) -> None:
    (webhook,) = parse(WEBHOOK.format(name="desk", url=url).encode(), "x", Path("/s")).webhook
    assert webhook.url == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hooks.example.test/",
            "http://localhost/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
        ),
        *(
            "https://user:pw@hooks.example.test/",
            "https:///x",
            "https://h/#f",
            "hooks.example.test",
            "",
            "https://[",
            "https://h:x/",
        ),
    ],
)
def test_another_url_of_a_receiver_is_refused_without_an_echo_of_a_password(url: str) -> None:
    with pytest.raises(Invalid, match=r"x:3: webhook\.0\.url: ") as caught:
        parse(WEBHOOK.format(name="desk", url=url).encode(), "x", Path("/s"))
    assert "pw" not in str(caught.value)


def test_two_receivers_of_one_name_and_an_unknown_event_are_refused() -> None:
    twice = WEBHOOK.format(name="desk", url="https://h/") * 2
    with pytest.raises(Invalid, match="'desk' is the name of another webhook, too"):
        parse(twice.encode(), "x", Path("/s"))
    with pytest.raises(Invalid, match="is not an event; known: released, denied"):
        parse((WEBHOOK.format(name="desk", url="https://h/") + 'events = ["no"]\n').encode(), "x", Path("/s"))


KERBEROS = """\
[api]
address = "192.0.2.1"
certificate = "c"
key = "k"
[api.kerberos]
keytab = "/etc/provision/http.keytab"
[[api.kerberos.role]]
principals = ["alice@EXAMPLE.COM"]
role = "admin"
[[api.kerberos.role]]
principals = ["*@EXAMPLE.COM"]
role = "operator"
selector = { rack = "7" }
"""


def test_principals_of_kerberos_have_roles() -> None:
    api = parse(KERBEROS.encode(), "x", STATE).api
    assert api is not None and api.kerberos is not None
    assert api.kerberos.keytab == Path("/etc/provision/http.keytab")
    first, second = api.kerberos.role
    assert (first.principals, str(first.role), first.selector) == (("alice@EXAMPLE.COM",), "admin", {})
    assert (str(second.role), second.selector) == ("operator", {"rack": "7"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"*@EXAMPLE.COM"',
            '"*"',
            "11 '*' is not a principal with its realm; write NAME@REALM",
        ),
        ('"*@EXAMPLE.COM"', '"*@*"', "11 '*@*' is not a principal with its realm"),
        ('["*@EXAMPLE.COM"]', "[]", "11 has too few entries"),
        ('role = "operator"', 'role = "root"', "12 'root' is not one of reader, auditor, operator, admin"),
        ('selector = { rack = "7" }', 'selector = { rack = "a b" }', "13 'a b' is not allowed"),
        ('role = "operator"', 'rule = "operator"', "unknown key 'rule'; did you mean 'role'?"),
    ],
)
def test_mistakes_in_them_have_their_lines(old: str, new: str, said: str) -> None:
    found = problems(KERBEROS.replace(old, new))
    assert any(text.startswith(said) or said in text for text in found.values()), found
    assert all(path.startswith("api.kerberos.role.1") for path in found)


PROXY = """
[api]
address = "10.0.0.1"
certificate = "c"
key = "k"
[api.proxy]
port = 8444
addresses = ["10.0.0.5"]
certificate = "p"
public_name = "Prov.example.net."
public_port = 443
"""


def test_a_proxy_has_a_name_that_links_have() -> None:
    api = parse(PROXY.encode(), "x", STATE).api
    assert api is not None and api.proxy is not None
    assert api.proxy.public_url == "https://prov.example.net"
    # The secrets of its links are shorter for that.
    for address, port in (("provision.example.net", 443), ("192.168.100.200", 8443)):
        at = PROXY.replace("Prov.example.net.", address).replace("= 443", f"= {port}")
        assert parse(at.encode(), "x", STATE).api is not None
    nameless = parse(PROXY[: PROXY.index("public_name")].encode(), "x", STATE).api
    assert nameless is not None and nameless.proxy is not None and nameless.proxy.public_url is None


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        ("Prov.example.net.", "provisioner.example.net", "name", "longer by 2 than the 60 characters that BMCs take"),
        ("= 443", "= 18443", "name", "longer by 1"),
        ("Prov.example.net.", "https://prov.example.net", "name", "is not a valid host name"),
        ('public_name = "Prov.example.net."\n', "", "port", "has no 'public_name' beside it"),
    ],
)
def test_a_name_that_links_cannot_have(old: str, new: str, path: str, said: str) -> None:
    found = problems(PROXY.replace(old, new))
    assert said in found[f"api.proxy.public_{path}"]


@pytest.mark.parametrize(
    ("address", "names", "said"),
    [
        ("0.0.0.0", '"provision.example.net"', "make links longer by 5 than the 60 characters that BMCs take"),
        ("::", '"provision.example.net", "prov"', "add the server's IP address to them"),
        ("0.0.0.0", '"provision.example.net", "10.0.0.1"', ""),
        ("10.0.0.1", '"provision.example.net"', ""),
    ],
)
def test_a_name_of_the_api_that_links_cannot_have(address: str, names: str, said: str) -> None:
    text = PROXY.partition("[api.proxy]")[0].replace("10.0.0.1", address) + f"names = [{names}]\n"
    assert said in problems(text)["api.names"] if said else parse(text.encode(), "x", STATE).api


def test_kerberos_without_roles_is_of_no_use() -> None:
    assert set(problems(KERBEROS.partition("[[api")[0])) == {"api.kerberos.role"}
