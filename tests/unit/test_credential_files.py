"""A directory of credentials: what has a place in the inventory, and every file that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.credential import MAX_FILE
from provision.credential_files import bulk
from provision.errors import Problems
from provision.site import CredentialKind, CredentialSpec, Inventory, Site
from tests.helpers.store_samples import host, inventory

KINDS = {"tls": "certificate", "tls-key": "key", "krb5": "keytab", "enrol": "token", "motd": "file"}


def site(**kinds: str) -> Site:
    specs = {n.replace("_", "-"): CredentialSpec(kind=CredentialKind(k), path=f"/etc/{n}") for n, k in kinds.items()}
    return inventory().site.model_copy(update={"credentials": specs})


SITE = site(**KINDS)
HOST = host(1, credentials=tuple(KINDS))


def test_bulk(tmp_path: Path) -> None:
    every = Inventory(site=SITE, hosts=(HOST, host(2, credentials=("enrol",))))
    for place in ("n1/tls", "n1/krb5", "n2/enrol"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
    items = bulk(tmp_path, every)
    assert [(i.host, i.name, i.path.relative_to(tmp_path).as_posix()) for i in items] == [
        ("n1", "krb5", "n1/krb5"),
        ("n1", "tls", "n1/tls"),
        ("n2", "enrol", "n2/enrol"),
    ]


def test_bulk_names_every_problem(tmp_path: Path) -> None:
    every = Inventory(site=SITE, hosts=(HOST, host(2, credentials=("enrol",)), host(3)))
    for place in ("n1/tls", "n1/other", "n2/tls", "n9/tls", "n1/krb5/deep"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / place).write_bytes(b"canary")
    (tmp_path / "n3").write_bytes(b"x")
    (tmp_path / "n1/motd").symlink_to("/etc/shadow")
    (tmp_path / "n1/enrol").write_bytes(b"")
    with (tmp_path / "n1/tls-key").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(Problems) as caught:
        bulk(tmp_path, every)
    found = {Path(p.file).relative_to(tmp_path).as_posix(): p.fact for p in caught.value.problems}
    assert found == {
        "n1/other": "the site declares no credential of this name",
        "n1/krb5": "is not a regular file",
        "n1/motd": "is not a regular file",
        "n1/enrol": "is empty",
        "n1/tls-key": f"has {MAX_FILE + 1} bytes, more than {MAX_FILE}",
        "n2/tls": "n2 does not name this credential",
        "n3": "is not a directory",
        "n9": "no host of this name is in the inventory",
    }


def test_bulk_of_nothing(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Problems):
            bulk(directory, Inventory(site=SITE))
