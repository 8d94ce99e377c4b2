"""The command line from elsewhere: every command over TLS, with nothing of the server's at hand but its URL."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.fixtures import media
from tests.helpers.authority import Authority
from tests.helpers.cli_runner import Ran, run
from tests.helpers.front import Front, front
from tests.helpers.site_fixture import CANARY, INVENTORY, closed_site
from tests.integration.attacks.test_operator_socket import COMMANDS, LOCAL

AUTHORITY = Authority()
BMC = ("--url", "https://127.0.0.1:9", "--user", "root", "--password-file", "secret")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("server")
    with front(closed_site(directory), AUTHORITY.issue("127.0.0.1", "localhost")) as running:
        yield running


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on another machine, where nobody has logged in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PROVISION_STATE", "/nonexistent")
    return tmp_path


@pytest.fixture
def at(server: Front, laptop: Path) -> str:
    """The server's URL, logged in to."""
    ran = login(server, "--fingerprint", AUTHORITY.fingerprint)
    assert ran.code == 0, ran
    return server.url


def login(server: Front, *arguments: str | Path, token: str | None = None) -> Ran:
    shown = server.token if token is None else token
    return run("--server", server.url, "login", *arguments, stdin=f"{shown}\n".encode())


def test_a_login_is_kept_for_its_user_alone(server: Front, laptop: Path) -> None:
    ran = login(server, "--fingerprint", AUTHORITY.fingerprint.replace(":", "").lower())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{server.url}: logged in as token:laptop, role admin, until 20")
    kept = laptop / "config" / "provision" / "servers.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, kept.parent)] == [0o600, 0o700]
    assert list(kept.parent.iterdir()) == [kept]
    again = json.loads(login(server, "--json").out)
    assert (again["server"], again["name"], again["authentication"]) == (server.url, "token:laptop", "token")
    ran = run("--server", server.url, "logout")
    assert (ran.code, server.token in kept.read_text()) == (0, False)
    assert run("--server", server.url, "logout").code == Exit.NOT_FOUND
    ran = run("--server", server.url, "status")
    assert ran.err == (
        f"error: {server.url}: you are not logged in to it; run 'provision --server {server.url} login'\n"
    )


def test_somebody_compares_the_fingerprint_and_types_the_token(
    server: Front, laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return server.token

    monkeypatch.setattr("getpass.getpass", ask)
    ran = run("--server", server.url, "login", typed="no\n")
    assert (ran.code, asked) == (Exit.DENIED, []), "nobody types a token for a server that is not the right one"
    assert AUTHORITY.fingerprint in ran.err and "CN=CA of a test" in ran.err and "'system'" not in ran.err
    assert run("--server", server.url, "login", typed="system\n").code == Exit.DENIED, "it does not trust this CA"
    ran = run("--server", server.url, "login", typed="pin\n")
    assert (ran.code, asked) == (0, ["Token: "])
    ran = run("--server", server.url, "login", typed="")
    assert (ran.code, AUTHORITY.fingerprint in ran.err) == (0, False), "what is pinned is not asked for again"


def test_the_system_may_know_the_ca(server: Front, laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert login(server, "--system-ca").code == Exit.DENIED
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY.file(laptop)))
    monkeypatch.setattr("getpass.getpass", lambda _: server.token)
    ran = run("--server", server.url, "login", typed="system\n")
    assert (ran.code, "'pin'" in ran.err and "'system'" in ran.err) == (0, True), ran
    assert run("--server", server.url, "host", "list").code == 0
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert run("--server", server.url, "host", "list").code == Exit.DENIED


def test_without_anybody_to_ask_a_ca_has_to_be_named(server: Front, laptop: Path) -> None:
    ran = login(server)
    assert (ran.code, AUTHORITY.fingerprint in ran.err, "--fingerprint" in ran.err) == (Exit.DENIED, True, True)
    assert login(server, "--ca", AUTHORITY.file(laptop)).code == 0
    for wrong in (("--fingerprint", "ab"), ("--ca", "/etc/hostname")):
        assert login(server, *wrong).code == Exit.INVALID
    assert login(server, "--fingerprint", "a" * 64).code == Exit.DENIED
    assert login(server, "--fingerprint", "a" * 64, "--system-ca").code == Exit.USAGE


def test_a_token_is_a_private_file_and_is_never_shown(server: Front, laptop: Path) -> None:
    token = laptop / "token"
    token.write_text(server.token)
    token.chmod(0o640)
    pin = ("--fingerprint", AUTHORITY.fingerprint)
    ran = login(server, *pin, "--token-file", token)
    assert (ran.code, "token: is open to other users (mode 0640)" in ran.err) == (Exit.DENIED, True)
    token.chmod(0o600)
    assert login(server, *pin, "--token-file", token, token="").code == 0
    wrong = f"provision_canary{'x' * 37}"
    ran = login(server, *pin, token=wrong)
    assert (ran.code, "does not accept your token" in ran.err) == (Exit.DENIED, True)
    assert "canary" not in ran.out + ran.err
    for text in ("", "two words", "ä" * 20, "x" * 300, wrong[:-1], wrong + "x", f"{wrong} {wrong}"):
        ran = login(server, *pin, token=text)
        assert (ran.code, ran.err.startswith("error: standard input: is not a valid token;")) == (Exit.INVALID, True)


def test_every_command_is_asked_for_from_elsewhere(at: str, laptop: Path) -> None:
    """In the order of the list: hosts are there, and what is removed comes last."""
    for directory in ("load/node2", "target"):
        (laptop / directory).mkdir(parents=True)
    (laptop / "site.yaml").write_text(INVENTORY.replace("rack: a", "rack: b"))
    (laptop / "secret").write_bytes(b"another-token")
    (laptop / "eks.csv").write_text(f"host,fingerprint\nnode1,{'ab' * 32}\n")
    (laptop / "load" / "node2" / "token").write_bytes(b"yet-another")
    (laptop / "vmlinuz").write_bytes(media.kernel())
    (laptop / "initrd").write_bytes(media.image_archive())
    done = {
        ("apply", "site.yaml", "--prune", "--yes"): "rack: a -> b",
        ("host", "list"): "node3",
        ("host", "show", "node1"): '"rack": "b"',
        ("credential", "set", "node1", "token", "--file", "secret"): "version 2",
        ("credential", "load", "load"): "sealed 1 credential",
        ("credential", "list"): "/etc/token",
        ("image", "import", "small", "--kernel", "vmlinuz", "--initrd", "initrd"): "imported small",
        ("image", "list"): "small",
        ("image", "verify", "small"): "as it was imported",
        ("image", "remove", "small"): "removed small",
        ("iso", "node1", "-o", "target/node1.iso"): "wrote target/node1.iso",
        ("disk", "node1", "-o", "target/node1.img", "--resume"): "wrote target/node1.img",
        ("iso", "--selector", "rack=b", "--out", "target/batch"): "2 written",
        ("render", "-o", "target/tree"): "configurations",
        ("dhcp", "-o", "target/dhcp.conf"): "wrote target/dhcp.conf",
        ("dhcp", "--unit", "/etc/x.conf"): "ExecStart",
        ("explain", "node1"): "management:mgmt",
        ("window", "node1"): "from the network once until 20",
        ("status",): "node1",
        ("host", "replace-mac", "node3", "mgmt", "52:54:00:00:00:33"): 'mgmt: {mac: "52:54:00:00:00:33"}',
        ("host", "move", "node3", "52:54:00:00:00:34"): "moved to the new machine",
        ("credential", "show", "node1", "token"): "token of node1: token, ",
        ("host", "compromised", "node3"): "declared compromised",
        ("host", "decommission", "node3", "--lost"): "its identity is forgotten",
        ("window", "node1", "--close"): "no window is open",
        ("window", "--selector", "rack=b", "--close"): "no window is open",
        ("link", "list"): "MADE BY",
        ("audit",): "window-opened",
        ("audit", "--verify"): "is whole",
        ("clock", "accept", "--reason", "a good reason"): "no longer",
        ("credential", "remove", "node2", "token"): "removed token",
        ("bmc", "set", "node1", *BMC): "root at https://127.0.0.1:9",
        ("bmc", "show", "node1"): "https://127.0.0.1:9",
        ("bmc", "remove", "node1"): "removed the BMC of node1",
        ("sb", "init"): "(secure-boot), in use",
        ("sb", "sign", "base"): "signed base",
        ("sb", "list"): "base",
        ("sb", "iso", "base", "-o", "target/base.iso"): "wrote target/base.iso",
        ("sb", "enrol-image", "-o", "target/enrol.img"): "wrote target/enrol.img",
        ("site-key", "roll", "signing"): "made site key",
        ("site-key", "list"): "signing",
        ("enroll", "node1"): "its TPM may be enrolled until 20",
        ("enroll", "node1", "--close"): "its enrolment window is closed",
        ("tpm", "import", "eks.csv"): "imported the TPM fingerprints of 1 host",
        ("tpm", "show", "node1"): "imported     abababab abababab",
        ("tpm", "list"): "FINGERPRINT",
        ("tpm", "explain", "node1"): "node1: no TPM is enrolled",
        ("tpm", "revoke", "base"): "approvals up to version 1 are revoked",
        ("tpm", "remove", "node1", "--imported"): "no TPM is enrolled",
        ("token", "create", "ci", "--role", "reader"): "provision_",
        ("token", "list"): "laptop",
        ("token", "revoke", "ci"): "revoked ci",
    }
    for command, text in done.items():
        ran = run("--server", at, *command)
        assert (ran.code, text in ran.out) == (0, True), (command, ran)
    ran = run("--server", at, "check")
    assert ran.code in (0, Exit.INVALID) and "node1" in ran.out + ran.err, "what DNS says here is not ours"
    # The laboratory's server gives nothing to links, and says so: the command was heard there.
    ran = run("--server", at, "link", "create", "node1")
    assert (ran.code, "this server gives no media to links" in ran.err) == (Exit.CONFLICT, True), ran
    ran = run("--server", at, "link", "revoke", "0123456789ab")
    assert (ran.code, "there is none with this id" in ran.err) == (Exit.NOT_FOUND, True), ran
    ran = run("--server", at, "host", "reprovision", "node1")
    assert (ran.code, "has not reported an identity" in ran.err) == (Exit.CONFLICT, True), ran
    ran = run("--server", at, "host", "retry-update", "node1")
    assert (ran.code, "no update has failed on it" in ran.err) == (Exit.CONFLICT, True), ran
    unset = (("bmc", "check", "node1"), ("power", "node1", "status"), ("boot", "node1"))
    for command in unset:
        ran = run("--server", at, *command)
        assert (ran.code, "BMC of node1: has not been set" in ran.err) == (Exit.NOT_FOUND, True), (command, ran)
    for command in (("webhook", "test", "desk"), ("webhook", "replay", "desk", "--from", "1")):
        ran = run("--server", at, *command)
        assert (ran.code, "the settings have no such" in ran.err) == (Exit.NOT_FOUND, True), (command, ran)
    for word in ("accept", "reject"):
        ran = run("--server", at, "tpm", word, "node1", "ab" * 32)
        assert (ran.code, "none with this fingerprint waits" in ran.err) == (Exit.NOT_FOUND, True), ran
    ran = run("--server", at, "rollout", "start", "base")
    assert (ran.code, "no host would get 'base' by it" in ran.err) == (Exit.CONFLICT, True), ran
    without = tuple(("rollout", word) for word in ("status", "pause", "continue", "rollback"))
    for command in without:
        ran = run("--server", at, *command)
        assert (ran.code, "roll-out: there is none" in ran.err) == (Exit.NOT_FOUND, True), (command, ran)
    ran = run("--server", at, "site-key", "retire", "1")
    assert (ran.code, "is the only one for the use 'secure-boot'" in ran.err) == (Exit.CONFLICT, True), ran
    grouped = (
        "host",
        "credential",
        "image",
        "token",
        "store",
        "link",
        "bmc",
        "webhook",
        "rollout",
        "site-key",
        "sb",
        "tpm",
    )
    names, known = ({c[:2] if c[0] in grouped else c[:1] for c in commands} for commands in (done, COMMANDS))
    heard = {("check",), ("link", "create"), ("link", "revoke"), ("bmc", "check"), ("power",), ("boot",)}
    heard |= {
        ("host", "reprovision"),
        ("host", "retry-update"),
        ("webhook", "test"),
        ("webhook", "replay"),
        ("rollout", "start"),
        ("site-key", "retire"),
        *without,
    }
    heard |= {("tpm", "accept"), ("tpm", "reject")}
    # The last one revokes every token.
    assert known - names == heard | {("completion",), ("store", "accept")}
    iso = (laptop / "target" / "node1.iso").read_bytes()
    assert b"another-token" in iso and stat.S_IMODE((laptop / "target" / "node1.iso").stat().st_mode) == 0o600
    described = run("--server", at, "--json", "iso", "node1", "-o", "again.iso").json
    assert described["sha256"] == hashlib.sha256((laptop / "again.iso").read_bytes()).hexdigest()
    assert not list(laptop.rglob("*.part"))


@pytest.mark.parametrize("command", [("init",), ("serve",), ("render", "-o", "tree", "--links")], ids=" ".join)
def test_what_needs_the_servers_own_disk_says_so(at: str, laptop: Path, command: tuple[str, ...]) -> None:
    ran = run("--server", at, *command)
    fact = "this needs the server's own disk and settings"
    remedy = "run it on that server itself, without --server and $PROVISION_SERVER"
    assert (ran.code, ran.err) == (Exit.INVALID, f"error: {at}: {fact}; {remedy}\n")
    assert command[0] not in ("init", "serve") or command[0] in LOCAL


def test_the_environment_names_a_server_and_an_option_another(
    at: str, laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVISION_SERVER", at)
    assert "node1" in run("host", "list").out
    assert run("--state", "/nonexistent", "host", "list").err.startswith("error: /nonexistent/provision.toml: ")
    ran = run("--server", at, "--state", "/nonexistent", "host", "list")
    assert (ran.code, "cannot be given with --state" in " ".join(ran.err.split())) == (Exit.USAGE, True)
    assert run("--server", "https://127.0.0.1:1", "host", "list").code == Exit.DENIED


_LOADED = """
import sys
from provision.cli import main
sys.argv[0] = "provision"
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def test_nothing_of_a_server_is_loaded(at: str, laptop: Path) -> None:
    argv = [sys.executable, "-c", _LOADED, "--server", at, "status"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "node1" in ran.stdout
    loaded = set(ran.stderr.split())
    assert loaded & {"fastapi", "starlette", "uvicorn", "sqlalchemy", "sqlite3", "cryptography", "pyroute2"} == set()
    assert {"httpx", "ssl"} <= loaded


def test_ansible_gets_hosts_from_elsewhere(at: str, laptop: Path) -> None:
    ran = run("--server", at, "host", "list", "--ansible")
    assert set(ran.json["_meta"]["hostvars"]) == {"node1", "node2", "node3"}
    assert CANARY.decode() not in ran.out and "token" not in ran.out


def test_shells_complete_its_hosts(at: str, laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["node1", "node2", "node3"]
    broken = at.replace(":", " : ").split()
    for words in (("--server", at), (f"--server={at}",), ("--server", "=", *broken), ("--server", *broken)):
        assert run("completion", "words", "--", *words, "explain", "n").out.split() == hosts, words
    monkeypatch.setenv("PROVISION_SERVER", at)
    assert run("completion", "words", "--", "explain", "n").out.split() == hosts
    monkeypatch.setenv("PROVISION_SERVER", "https://127.0.0.1:1")
    ran = run("completion", "words", "--", "explain", "n")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
