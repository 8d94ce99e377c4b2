"""What an apply refuses because the store holds something that it does not go with, and what it leaves to be done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.accounts import Accounts
from provision.boot import Medium
from provision.errors import Invalid, Problems
from provision.media.library import Library
from provision.secret import Secret
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, closed_site, origin, seed_url, site, sources, uncharged

TOKEN = "token: {kind: token, path: /etc/token}"
TWO = INVENTORY.replace(TOKEN, f"{TOKEN}\n    file: {{kind: file, path: /etc/file}}").replace(
    "  node1:\n    credentials: [token]", "  node1:\n    credentials: [token, file]"
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, TWO) as opened:
        yield opened


def refused(here: Site, text: str) -> list[str]:
    before = here.service.core.store.snapshot.change
    with pytest.raises(Problems) as told:
        here.apply(text)
    assert here.service.core.store.snapshot.change == before
    return [str(problem) for problem in told.value.problems]


def base_arguments(monkeypatch: pytest.MonkeyPatch, here: Site, *arguments: str) -> None:
    """Let the base image have these arguments, as one that was imported anew."""
    base = here.base.__class__(**{**here.base.__dict__, "kernel_arguments": arguments})
    monkeypatch.setattr(Library, "get", lambda *_: base)
    here.service.core._bases.clear()


def test_a_declared_path_that_the_seed_has_is_refused_once_for_all_hosts(here: Site) -> None:
    here.service.credentials.remove("node1", "token", ROOT)
    here.service.credentials.remove("node2", "token", ROOT)
    (line,) = refused(here, TWO.replace("/etc/token", "/etc/hostname"))
    assert line == (
        "inventory: hosts.node1.credentials: no credential can stand at /etc/hostname: the seed has /etc/hostname "
        "anyway (and 1 more host); give 'token' another path"
    )


def test_a_sealed_path_that_the_changed_seed_has_is_refused(here: Site) -> None:
    here.service.credentials.put("node1", "file", Secret(b"x"), "/etc/krb5.conf", None, ROOT)
    (line,) = refused(here, TWO.replace("site:\n", "site:\n  realm: EXAMPLE.TEST\n"))
    assert "hosts.node1.credentials: no credential can stand at /etc/krb5.conf: the seed has /etc/krb5.conf" in line
    assert line.endswith("'provision credential set' file with another --path first")


def test_a_sealed_path_that_another_credential_is_declared_to_have_is_refused(here: Site) -> None:
    here.service.credentials.put("node1", "token", Secret(b"x"), "/etc/other", None, ROOT)
    (line,) = refused(here, TWO.replace("/etc/file", "/etc/other"))
    assert "no credential can stand at /etc/other beside 'token' at /etc/other; give 'file' another path" in line


def test_arguments_that_the_base_has_too_are_refused(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    base_arguments(monkeypatch, here, "ip=dhcp")
    (line,) = refused(here, TWO.replace("site:\n", "site:\n  kernel_arguments: [ip=off]\n"))
    assert "hosts.node1.kernel_arguments: the kernel argument ip= is given 2 times" in line
    assert "in the --cmdline of its base image and the site's kernel_arguments (and 2 more hosts); keep one" in line
    base_arguments(monkeypatch, here, *(f"x{i}={'y' * 200}" for i in range(7)))
    (line,) = refused(here, TWO.replace("  node3:\n", f"  node3:\n    kernel_arguments: [z{'z' * 200}]\n"))
    assert "hosts.node3.kernel_arguments: the kernel arguments have" in line
    assert line.endswith("shorten the --cmdline of its base image")


def test_a_base_that_came_later_is_named(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.apply(TWO.replace("  node3:\n", "  node3:\n    kernel_arguments: [ip=off]\n"))
    base_arguments(monkeypatch, here, "ip=dhcp")
    with pytest.raises(Invalid, match="ip= is given 2 times, in the --cmdline of its base image and the host's"):
        here.service.media.plan("node3", Medium.ISO, ROOT)


def test_an_apply_says_what_stays_as_it_was_sealed(here: Site) -> None:
    moved = TWO.replace(TOKEN, "token: {kind: file, path: /etc/moved}")
    _, changes, _ = here.service.inventories.preview(sources(moved), False)
    assert changes.notes == (
        "credential 'token' of node1, node2 stays as it was sealed (token at /etc/token, mode 0600); "
        "seal it again with 'provision credential set' or 'load'",
    )
    here.apply(moved)
    _, again, _ = here.service.inventories.preview(sources(moved), False)
    assert again.notes == ()


def test_what_was_set_to_another_place_on_purpose_is_no_note(here: Site) -> None:
    for name in ("node1", "node2"):
        here.service.credentials.put(name, "token", Secret(b"x"), "/etc/moved", None, ROOT)
    _, changes, _ = here.service.inventories.preview(sources(TWO.replace("/etc/token", "/etc/moved")), False)
    assert changes.notes == ()


def test_the_command_line_shows_notes_and_a_change_of_the_site_alone(tmp_path: Path) -> None:
    state, file = closed_site(tmp_path), tmp_path / "new.yaml"
    file.write_text(INVENTORY.replace("/etc/token", "/etc/moved"))
    ran = cli(state, "apply", file)
    assert ran.code == 0, ran
    assert "\nsite: changed; hosts: 0 added, 0 changed, 0 removed (all of it was applied)\nnote: credential" in ran.out


OWNED = INVENTORY.replace("path: /etc/token}", "path: /etc/token, mode: 0640, group: libvirt-qemu}")
QEMU = Accounts({"libvirt-qemu": 64055}, {"kvm": 109, "libvirt-qemu": 64055})


def let_base_have(monkeypatch: pytest.MonkeyPatch, here: Site, accounts: Accounts) -> None:
    """Let the base image have these accounts, as one that was imported anew."""
    base = here.base.__class__(**{**here.base.__dict__, "accounts": accounts})
    monkeypatch.setattr(Library, "get", lambda *_: base)
    here.service.core._bases.clear()


def test_the_seed_gives_it_to_the_account(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    here.apply(OWNED)
    here.secret("node1", b"shared with the group")
    here.window("node1")
    revision = seed_url(here)
    delivery = here.service.netboot.seed(origin(), revision)
    seed = uncharged(delivery).data
    text = seed[seed.index(b'{"format": 1') : seed.index(b"\n]}")] + b"\n]}"
    (owned,) = [entry for entry in json.loads(text)["files"] if entry["owner"] != "0:0"]
    assert (owned["path"], owned["mode"], owned["owner"]) == ("/etc/token", "0640", "0:64055")


def test_an_account_that_the_image_does_not_have_is_refused(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = here.service.core.store.snapshot.change
    with pytest.raises(Problems) as told:
        here.apply(OWNED)
    (line,) = map(str, told.value.problems)
    assert "hosts.node1.credentials: the base image 'base' has no group 'libvirt-qemu', which must own 'token'" in line
    assert line.endswith("own 'token' (and 1 more host); import an image that names its accounts")
    let_base_have(monkeypatch, here, Accounts({}, {"libvirt-qeum": 1}))
    with pytest.raises(Problems, match="did you mean 'libvirt-qeum'"):
        here.apply(OWNED)
    assert here.service.core.store.snapshot.change == before


def test_a_host_whose_new_image_lacks_the_account_gets_no_seed(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    here.apply(OWNED)
    assert here.service.core.state("node1").missing == ()
    let_base_have(monkeypatch, here, Accounts())
    here.service.core._known = (-1, {})  # as after the import
    (missing,) = here.service.core.state("node1").missing
    assert missing == "the group 'libvirt-qemu' of its credential 'token' in its base image"
    told = str(here.service.reports.explain("node1", ROOT))
    assert "incomplete" in told and missing.replace("'", "") in told.replace("'", "").replace("\\", "")


def test_a_changed_owner_needs_no_new_sealing(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    group = OWNED.replace(", mode: 0640", "")
    owners = []
    for text in (group, group.replace("libvirt-qemu", "kvm")):
        _, changes, _ = here.service.inventories.preview(sources(text), False)
        assert changes.notes == ()
        here.apply(text)
        owners.append(here.service.core.owners(here.service.core.hosts["node1"])["token"])
    assert owners == ["0:64055", "0:109"]
