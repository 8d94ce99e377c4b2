"""The key of a host without a disk, kept in its TPM until that is enrolled no longer."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from provision import assets
from provision.media.initrd import ALIVE
from tests.helpers import paths
from tests.helpers.host_programs import load
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY
from tests.helpers.tpm import Tpm
from tests.helpers.wrapped_site import INVENTORY, KEPT_KEY, Wrapped, wrapped
from tests.integration.tpm.test_at_rest import said


@pytest.fixture
def diskless(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    with wrapped(tmp_path / "site", tpm) as found:
        base = found.here.base
        found.here.service.core._bases[base.id] = replace(base, features=(ALIVE,))
        found.enroll()
        found.storage = "none"
        found.boot()
        assert found.run(), found.console
        yield found


def imports(host: Wrapped) -> int:
    """How often the TPM was told to import something (TPM2_Import)."""
    return sum(seen[6:10] == bytes.fromhex("00000156") for seen in host.bus.seen)


def handles(host: Wrapped, kind: str) -> list[str]:
    return host.tpm.run("getcap", f"handles-{kind}").stdout.split()[1::2]


def test_the_tpm_of_a_host_without_a_disk_keeps_the_key(diskless: Wrapped) -> None:
    assert handles(diskless, "persistent") == ["0x81185057"] and imports(diskless) == 1
    diskless.restart()
    assert diskless.run() and diskless.token() == CANARY
    assert imports(diskless) == 1 and not diskless.console
    assert handles(diskless, "transient") == handles(diskless, "loaded-session") == []
    diskless.refused("no approved boot chain is the one that was booted", "chain")
    diskless.tpm.restart()
    diskless.boot(instead={8: [sha256(b"another word").digest()]})
    diskless.refused("no approved boot chain is the one that was booted", "chain")


def test_another_key_takes_its_place(diskless: Wrapped) -> None:
    before = KEPT_KEY.find(diskless.device).name
    diskless.here.secret("node1", b"canary-of-the-second-token")
    diskless.restart()
    assert diskless.run() and diskless.token() == b"canary-of-the-second-token"
    assert handles(diskless, "persistent") == ["0x81185057"] and KEPT_KEY.find(diskless.device).name != before


def test_a_cleared_tpm_imports_it_again(diskless: Wrapped) -> None:
    diskless.tpm.run("clear", "-c", "p")
    assert handles(diskless, "persistent") == []
    diskless.restart()
    assert diskless.run() and handles(diskless, "persistent") == ["0x81185057"]


def test_a_host_that_gets_a_disk_lets_it_go(diskless: Wrapped) -> None:
    diskless.storage = "persistent"
    diskless.restart()
    assert diskless.run() and handles(diskless, "persistent") == []


def wipes(host: Wrapped, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the image's program that wipes, on a machine without partitions, with the host's TPM."""
    program = assets.directory("images") / "host/root/usr/lib/provision"
    script = (program / "forget-identity").read_text()
    code = (
        "import sys; sys.path += sys.argv[1:]; from tests.helpers.host_programs import Bus; import kept_key, tpm; "
        f"kept_key.main(lambda: tpm.Tpm(Bus({host.tpm.port}).exchange))"
    )
    for there, here in (
        ("python3 -B /usr/lib/provision/kept_key.py", f"{sys.executable} -B -c '{code}' {paths.ROOT} {program}"),
        ("/usr/lib/provision/", f"{program}/"),
        ("/etc/provision/host.json", str(host.root.parent / "host.json")),
        ("/sys/class/block", str(folder)),
    ):
        assert there in script
        script = script.replace(there, here)
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_host_without_a_disk_removes_it_when_its_tpm_is_enrolled_no_longer(diskless: Wrapped, tmp_path: Path) -> None:
    service = diskless.here.service
    diskless.here.apply(INVENTORY.replace("    netboot: always", "    storage: none\n    netboot: never", 1))
    assert service.netboot.phone_home.alive(said(diskless)) is None
    done = service.decommissions.decommission("node1", ROOT)
    assert done.wiping and done.sealed
    order = service.netboot.phone_home.alive(said(diskless, 2))
    assert order is not None and order["order"] == "wipe"
    diskless.tpm.run("changeauth", "-c", "owner", "secret")
    failed = wipes(diskless, tmp_path)
    assert failed.returncode == 1 and "the key in the TPM is not removed: " in failed.stderr
    diskless.tpm.run("changeauth", "-c", "owner", "-p", "secret")
    assert wipes(diskless, tmp_path).returncode == 0 and handles(diskless, "persistent") == []
    assert wipes(diskless, tmp_path).returncode == 0, "done again, there is nothing to do"
    diskless.identity.write_text("wiped\n")
    assert service.netboot.phone_home.alive(said(diskless, 3)) is None, "it is told so no more"
    diskless.storage = "persistent"
    assert diskless.run() is False
    assert wipes(diskless, tmp_path).returncode == 1, "the disk of a host that may have one is not there"


def unreadable() -> NoReturn:
    raise OSError(errno.EIO, "Input/output error")


def test_only_a_machine_without_a_tpm_has_nothing_to_remove(tmp_path: Path) -> None:
    KEPT_KEY.main(lambda: load("tpm").device(str(tmp_path / "tpmrm0")))
    with pytest.raises(SystemExit, match=r"the key in the TPM is not removed: .*Input/output error"):
        KEPT_KEY.main(unreadable)


@pytest.mark.parametrize("storage", ["none", "persistent"])
def test_somebody_else_s_object_stays(tpm: Tpm, tmp_path: Path, storage: str) -> None:
    with wrapped(tmp_path / "site", tpm) as host:
        host.enroll()
        host.storage = storage
        tpm.run("createprimary", "-C", "o", "-c", "theirs.ctx")
        tpm.run("evictcontrol", "-C", "o", "-c", "theirs.ctx", "0x81185057")
        theirs = KEPT_KEY.find(host.device).name
        host.boot()
        assert host.run() and host.token() == CANARY
        assert KEPT_KEY.find(host.device).name == theirs
        told = "is not kept in its TPM: something that is not a provisioning server's stands at 0x81185057"
        assert (told in " ".join(host.console)) == (storage == "none")


def test_a_full_tpm_and_one_with_an_owner_import_it_at_each_boot(tpm: Tpm, tmp_path: Path) -> None:
    with wrapped(tmp_path / "site", tpm) as host:
        host.enroll()
        host.storage = "none"
        host.boot()
        tpm.run("createprimary", "-C", "o", "-c", "theirs.ctx")
        number = 0
        keep = "evictcontrol", "-C", "o", "-c", "theirs.ctx"
        while tpm.run(*keep, f"{0x81000100 + number:#x}", ok=False).returncode == 0:
            number += 1
        assert host.run() and host.token() == CANARY, host.console
        assert "is not kept in its TPM: it has no room left" in " ".join(host.console)
        tpm.run("evictcontrol", "-C", "o", "-c", "0x81000100")
        tpm.run("changeauth", "-c", "owner", "secret")
        host.restart()
        host.console.clear()
        assert host.run() and "0x81185057" not in handles(host, "persistent")
        assert "is not kept in its TPM: its owner does not let us" in " ".join(host.console)
