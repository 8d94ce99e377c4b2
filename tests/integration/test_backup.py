"""The documented backup brings everything back: key, database, audit log and base images, in a directory made anew."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.helpers.cli_runner import cli
from tests.helpers.documents import Document
from tests.helpers.site_fixture import closed_site

BACKUP, RESTORE, AFTER = Document.read("docs/deployment.md").section("Backup and restore").blocks("sh")


def here(block: str, root: Path) -> str:
    """The lines of the page for directories below `root`, without what needs systemd and the service's user."""
    places = {"/var/lib/provision": "state", "/backup": "backup", "/vault": "vault"}
    for place, name in places.items():
        block = block.replace(place, str(root / name))
    return re.sub(r"^(systemctl|chown) .*$", "", block, flags=re.MULTILINE)


def test_what_was_backed_up_as_documented_works_again(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    assert cli(state, "iso", "node1", "-o", tmp_path / "before.iso").code == 0
    (tmp_path / "vault").mkdir()
    shutil.copy(state / "key", tmp_path / "vault" / "key")
    for block in (BACKUP, BACKUP, RESTORE):
        subprocess.run(["sh", "-euc", here(block, tmp_path)], check=True, timeout=60)
        # What comes after the backup of the database is in the log alone, as it is when that is copied later.
        if block is BACKUP:
            assert cli(state, "window", "node1").code == 0
            for name in ("audit.head", "audit.log"):
                shutil.copy(state / name, tmp_path / "backup" / "provision" / name)
    # Nothing of the old directory is used.
    shutil.rmtree(tmp_path / "state.old")
    assert {path.stat().st_mode & 0o777 for path in state.rglob("*")} == {0o700, 0o600}
    refused = cli(state, "iso", "node1", "-o", tmp_path / "after.iso")
    assert refused.code == 4 and "database is older (generation" in refused.err
    for line in AFTER.splitlines():
        words = shlex.split(line.replace("hypervisor", "base"))
        assert cli(state, *words[1:]).code == 0, line
    assert cli(state, "iso", "node1", "-o", tmp_path / "after.iso").code == 0
    assert (tmp_path / "after.iso").read_bytes() == (tmp_path / "before.iso").read_bytes()
