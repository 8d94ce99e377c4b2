"""init --ca, and ca show, export and renew."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from provision.errors import Exit
from provision.settings import load
from provision.tls import context
from tests.helpers.cli_runner import cli

NAMES = ("--name", "prov.example.test", "--address", "192.0.2.1", "--address", "2001:db8::1")
WANTED = ["prov.example.test", "192.0.2.1", "2001:db8::1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("ca") / "state"
    assert cli(state, "init", "--ca", *NAMES).code == 0
    return state


def keys(state: Path) -> list[str]:
    """The lines of every key, none of which is ever shown."""
    texts = [path.read_text() for path in (state / "tls").glob("*.key")]
    return [line for text in texts for line in text.splitlines() if not line.startswith("-----")]


def test_the_settings_that_init_prints_serve(made: Path, tmp_path: Path) -> None:
    ran = cli(tmp_path / "new", "init", "--ca", *NAMES)
    block = ran.out[ran.out.index("[api]") : ran.out.index("]", ran.out.index("names")) + 1]
    (made / "provision.toml").write_text(block)
    api = load(made, made / "provision.toml").api
    assert api is not None and list(api.names) == WANTED and str(api.address) == "192.0.2.1"
    context.load(api.pairs(made))
    assert not any(line in ran.out for line in keys(tmp_path / "new"))
    said = cli(tmp_path / "other", "init", "--ca", "--name", "prov", "--json").json
    assert 'address = "0.0.0.0"' in said["settings"]


def test_a_ca_is_added_to_a_state_directory_and_to_none_twice(tmp_path: Path) -> None:
    assert cli(tmp_path / "s", "init").code == 0
    ran = cli(tmp_path / "s", "init", "--ca", "--address", "10.0.0.1")
    assert ran.code == 0 and "made an internal CA" in ran.out
    again = cli(tmp_path / "s", "init", "--ca", "--address", "10.0.0.1")
    assert again.code == Exit.CONFLICT and "provision ca renew" in again.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--ca",), Exit.USAGE),
        (("--name", "x"), Exit.USAGE),
        (("--ca", "--name", "x:8443"), Exit.INVALID),
        (("--ca", "--address", "x"), Exit.INVALID),
        (("--ca", "--name", "provision.example.test"), Exit.INVALID),  # in links, without an address
    ],
)
def test_names_that_do_not_do(tmp_path: Path, arguments: tuple[str, ...], code: Exit) -> None:
    assert cli(tmp_path / "s", "init", *arguments).code == code
    assert not (tmp_path / "s").exists()


def test_it_is_shown_without_keys(made: Path) -> None:
    ran = cli(made, "ca", "show", "--json")
    assert [(row["for"], row["what"]) for row in ran.json] == [
        ("operators", "CA"),
        ("operators", "server"),
        ("firmware", "CA"),
        ("firmware", "server"),
    ]
    assert [row["names"] for row in ran.json] == [[], WANTED, [], WANTED]
    assert all(len(row["sha256"]) == 95 for row in ran.json)
    for one in (ran.out, cli(made, "ca", "show").out):
        assert not any(line in one for line in keys(made)) and "prov.example.test" in one


@pytest.mark.parametrize(("firmware", "root"), [((), "ca.pem"), (("--firmware",), "firmware-ca.pem")])
def test_it_is_exported_in_every_form(made: Path, tmp_path: Path, firmware: tuple[str, ...], root: str) -> None:
    pem = (made / "tls" / root).read_bytes()
    for form in ("pem", "der", "efi"):
        ran = cli(made, "ca", "export", *firmware, "--format", form, "-o", tmp_path / form)
        assert ran.code == 0
        assert (tmp_path / form).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "pem").read_bytes() == pem
    assert (tmp_path / "der").read_bytes() == ssl.PEM_cert_to_DER_cert(pem.decode())
    assert (tmp_path / "efi").read_bytes().endswith((tmp_path / "der").read_bytes())
    assert cli(made, "ca", "export", *firmware).out.encode() == pem
    assert cli(made, "ca", "export", "--format", "p12").code == Exit.USAGE


def test_renewing_keeps_names_or_takes_new_ones(made: Path) -> None:
    before = cli(made, "ca", "show", "--json").json
    assert "prov.example.test, 192.0.2.1, 2001:db8::1" in cli(made, "ca", "renew").out
    renewed = cli(made, "ca", "renew", "--address", "192.0.2.2", "--json").json
    assert [row["names"] for row in renewed] == [["192.0.2.2"], ["192.0.2.2"]]
    after = cli(made, "ca", "show", "--json").json
    assert [row["sha256"] for row in after[::2]] == [row["sha256"] for row in before[::2]]
    assert {row["sha256"] for row in after[1::2]}.isdisjoint(row["sha256"] for row in before)
    assert cli(made, "ca", "renew", "--name", "prov.example.com").code == Exit.INVALID
    assert "[api]" not in cli(made, "ca", "renew").out
    said = cli(made, "ca", "renew", *NAMES).out
    assert f"put this into [api] of {made}/provision.toml, and restart the service:\nnames = [" in said


def test_without_a_ca_the_way_to_one_is_told(tmp_path: Path) -> None:
    assert cli(tmp_path, "init").code == 0
    for command in ("show", "export", "renew"):
        ran = cli(tmp_path, "ca", command)
        assert ran.code == Exit.NOT_FOUND and "provision init --ca" in ran.err


def test_root_makes_no_files_that_the_service_could_not_read(tmp_path: Path) -> None:
    assert cli(tmp_path / "s", "init", "--ca", "--name", "prov").code == 0
    os.chown(tmp_path / "s", 65534, 65534)
    ran = cli(tmp_path / "s", "ca", "renew")
    assert ran.code == Exit.UNAVAILABLE and "runuser -u nobody -- provision" in ran.err
