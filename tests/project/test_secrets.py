"""A canary secret through a whole life, searched for everywhere that it must not be."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision import errors
from provision.boot import Medium
from provision.secret import Secret
from provision.seed import PhoneHome, SeedCredential
from provision.site import CredentialKind
from provision.store.credentials import CredentialInput
from tests.helpers.netns import isolated, lan
from tests.helpers.principals import ROOT
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    READS_AGAIN,
    Site,
    boot_iso,
    charged,
    everything,
    leaks,
    make_base,
    origin,
    secret_forms,
    site,
)

BMC = ("--user", "root", "--fingerprint", "ab" * 32, "--password-file")
NETWORK = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\n'


# What holds a secret in memory never shows it


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window(boots=9)
        yield opened


def test_no_object_shows_a_secret(here: Site) -> None:
    netboot, core = here.service.netboot, here.service.core
    seed = charged(netboot.seed(origin(), None))
    plan = boot_iso(netboot, origin(), 0, everything)
    download = here.service.media.plan("node1", Medium.ISO, ROOT)
    key = core.store.keys.phone_home(1, "node1")
    objects: list[Any] = [
        seed,
        plan,
        *plan.patches,
        download,
        key,
        Secret(CANARY),
        SeedCredential("token", 1, "/etc/token", "0600", Secret(CANARY)),
        CredentialInput("token", CredentialKind.TOKEN, "/etc/token", "0600", Secret(CANARY)),
        PhoneHome("http://10.0.0.1/up", "1", key, key),
        *core.store.credentials.open("node1", ["token"]),
        *core.store.credentials.infos(),
        *core.store.boots.of("node1"),
        core.state("node1"),
        core.store,
        core.audit,
        here.service,
        core.settings,
        core.store.snapshot,
        {"in": [seed, Secret(CANARY)]},
    ]
    forms = secret_forms(here)
    for thing in objects:
        assert leaks(forms, repr(thing), f"{thing}", f"{thing!s}") == [], type(thing)
    assert all(leaks(forms, part.data) for part in plan.patches if len(part.data) > 10_000)


def test_a_secret_cannot_be_copied_out_by_accident() -> None:
    secret = Secret(CANARY)
    accidents: list[Any] = [pickle.dumps, copy.deepcopy, json.dumps, dataclasses.asdict]
    for accident in accidents:
        with pytest.raises(TypeError):
            accident(secret)


def test_errors_about_a_seed_that_cannot_be_made_hold_none(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    small = make_base(here.state, "small", seed_size=1024)
    here.service.core.store.bases.name("small", small.id)
    here.apply(INVENTORY.replace("base: base", "base: small"))
    with pytest.raises(errors.Invalid, match="--seed-size") as told:
        here.service.media.plan("node1", Medium.ISO, ROOT)
    assert leaks(secret_forms(here), repr(told.value), told.value.details(), told.value.__dict__) == []


# A whole life


def asked(machine: Any, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> bytes:
    """The raw answer, header and body, of a request from the other machine."""
    lines = "".join(f"{name}: {value}\\r\\n" for name, value in {"Host": "x", **(headers or {})}.items())
    text = f"{method} {path} HTTP/1.1\\r\\n{lines}Content-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n{body}"
    code = (
        "import socket,sys; s=socket.create_connection(('10.0.0.1',8080),10); "
        f"s.sendall(b'''{text}'''); d=b''\n"
        "while p:=s.recv(65536): d+=p\n"
        "sys.stdout.buffer.write(d)"
    )
    argv = machine.argv("python3", "-c", code)
    return subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout


def requests(machine: Any) -> tuple[list[bytes], list[bytes]]:
    """Answers that may hold the secret, and answers that may not."""
    config = asked(machine, "GET", f"/pxe/pxelinux.cfg/01-{MAC1.replace(':', '-')}")
    seed = asked(machine, "GET", "/boot/seed/current/seed.cpio")
    iso = asked(machine, "GET", "/http-boot/boot.iso")
    refused = [
        config,
        asked(machine, "HEAD", "/boot/seed/current/seed.cpio"),
        asked(machine, "GET", "/boot/seed/" + "0" * 64 + "/seed.cpio"),
        asked(machine, "GET", "/http-boot/boot.iso", {"Range": "bytes=99999999-"}),
        asked(machine, "GET", "/http-boot/boot.iso", {"If-Match": '"other"'}),
        asked(machine, "POST", "/up", body='{"host": "node1", "key": "00"}'),
        asked(machine, "GET", "/v1/hosts/node1/iso"),
        asked(machine, "GET", "/pxe/../key"),
        asked(machine, "DELETE", "/boot/seed/current/seed.cpio"),
        asked(machine, "GET", "/" + "x" * 20_000),
    ]
    return [seed, iso], refused


def everything_below(*directories: Path) -> Iterator[tuple[Path, bytes]]:
    for directory in directories:
        for place, _, names in os.walk(directory):
            for path in (Path(place, name) for name in names):
                found = read(path)
                if found is not None:
                    yield path, found


def read(path: Path) -> bytes | None:
    """A regular file's bytes; None when it is none, or another process has just removed it."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_file() and not path.is_symlink():
            return path.read_bytes()
    return None


@pytest.mark.integration
@isolated
def test_the_canary_is_nowhere_but_in_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, temporary, outputs = tmp_path / "state", tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    outputs.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "secret").write_bytes(CANARY)
    (tmp_path / "site.yaml").write_text(READS_AGAIN)
    said: list[Any] = [run(state, "init")]
    (state / "provision.toml").write_text(NETWORK)
    make_base(state)
    said.append(run(state, "apply", tmp_path / "site.yaml"))
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as machine, serve(state) as served:
        pid = served.process.pid
        for command in (
            ("credential", "set", "node1", "token", "--file", tmp_path / "secret"),
            ("credential", "set", "node9", "token", "--file", tmp_path / "secret"),
            ("credential", "set", "node1", "nothing", "--file", tmp_path / "secret"),
            ("credential", "set", "node1", "token", "--file", tmp_path / "secret", "--mode", "rwx"),
            ("credential", "list", "--json"),
            ("bmc", "set", "node1", "--url", "https://127.0.0.1:9", *BMC, tmp_path / "secret"),
            ("bmc", "set", "node1", "--url", "http://127.0.0.1:9", *BMC, tmp_path / "secret"),
            ("bmc", "show", "node1", "--json"),
            ("bmc", "check", "node1"),
            ("power", "node1", "on", "--json"),
            ("explain", "node1", "--json"),
            ("host", "show", "node1"),
            ("iso", "node1", "-o", tmp_path / "missing" / "x.iso"),
            ("iso", "node1", "-o", outputs / "node1.iso"),
            ("render", "-o", tmp_path / "tree"),
            ("dhcp",),
            ("window", "node1", "--boots", "9"),
        ):
            said.append(run(state, *command))
        released, refused = requests(machine)
        said += [run(state, "status", "--json"), run(state, "audit", "--json"), run(state, "audit", "--verify")]
        keys = _phone_home_keys(released[0])
        forms = [*leak_forms(), *(key.encode() for key in keys), *(bytes.fromhex(key) for key in keys)]
        assert keys
        assert all(leaks(forms, answer) for answer in released), "otherwise this test could not fail"
        assert [answer[:200] for answer in refused if leaks(forms, answer)] == []
        process = Path(f"/proc/{pid}")
        assert not leaks(forms, (process / "cmdline").read_bytes(), (process / "environ").read_bytes())
        living = [path for path, data in everything_below(state, temporary, tmp_path / "tree") if leaks(forms, data)]
        assert living == [], "while it runs: the database with its log, the audit log, temporary files"
        served.stop()
        assert not leaks(forms, served.log)
    assert [ran for ran in said if leaks(forms, ran.stdout, ran.stderr, str(ran.args))] == []
    left = [path for path, data in everything_below(state, temporary, tmp_path / "tree") if leaks(forms, data)]
    assert left == []
    assert leaks(forms, (outputs / "node1.iso").read_bytes())
    assert (outputs / "node1.iso").stat().st_mode & 0o077 == 0


def leak_forms() -> list[bytes]:
    from tests.helpers.site_fixture import _forms

    return _forms(CANARY)


def _phone_home_keys(seed: bytes) -> list[str]:
    return [part.split(b'"')[0].decode() for part in seed.split(b'"key": "')[1:]]


@pytest.mark.integration
def test_nothing_of_this_lies_in_the_system_temporary_directory() -> None:
    forms = leak_forms()
    with os.scandir("/tmp") as entries:
        mine = [Path(e) for e in entries if e.name.startswith("provision-") and e.is_dir(follow_symlinks=False)]
    assert [path for path, data in everything_below(*mine) if leaks(forms, data)] == []
