"""tools/need: what it installs starts neither now nor at the next boot, and what was there before is left alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# A machine on which nginx-light was never installed and rpcbind was. The other packages of the group are there: one by
# another name, and one that is held at its version.
FAKES = {
    "id": 'echo "$USERID"',
    "dpkg-query": """case "$3" in
*Provides*)
    echo 'ii  tftpd-hpa, '
    echo 'hi  tftp-hpa, tftp-client (= 5.2), tftp'
    echo 'ii  mmdebstrap-t64, bootstrap, mmdebstrap (= 1.5)'
    echo 'rc  nginx-light, '
    ;;
*Abbrev*) sed 's/^/ii  /' "$MACHINE/installed" ;;
esac""",
    "dpkg": 'shift; for package in "$@"; do cat "$MACHINE/files/$package"; done',
    "apt-get": """[ "$1" = install ] || exit 0
[ -x "$DPKG_ROOT/usr/sbin/policy-rc.d" ] && "$DPKG_ROOT/usr/sbin/policy-rc.d" || echo "guard $?" >>"$MACHINE/said"
printf '%s\\n' nginx-common nginx-light >>"$MACHINE/installed"
exit "${FAILS:-0}\"""",
    "systemctl": 'echo "systemctl $*" >>"$MACHINE/said"; [ "${4#nginx-}" = "$4" ]',
    "update-rc.d": 'echo "update-rc.d $* $_SKIP_SYSTEMD_NATIVE" >>"$MACHINE/said"',
}
FILES = {
    "nginx-light": ["/usr/share/doc/nginx-light"],
    "nginx-common": [
        "/etc/init.d",
        "/etc/init.d/nginx",
        "/lib/systemd/system",
        "/lib/systemd/system/nginx-debug.service",
        "/lib/systemd/system/nginx.service",
        "/lib/systemd/system/other.service.d/drop-in.conf",
        "/usr/lib/systemd/system/nginx.socket",
    ],
    "rpcbind": ["/etc/init.d/rpcbind", "/lib/systemd/system/rpcbind.service"],
}
UNITS = [f"systemctl --quiet --no-reload disable nginx{name}" for name in ("-debug.service", ".service", ".socket")]
SCRIPTS = ["update-rc.d nginx disable 1"]


def need(machine: Path, *, without: str = "", fails: int = 0, uid: int = 0) -> tuple[int, list[str]]:
    """Run `tools/need bench` on a machine of fakes; its exit code, and what the machine heard of it, else the user."""
    programs = machine / "programs"
    for directory in (programs, machine / "files", machine / "usr" / "sbin"):
        directory.mkdir(parents=True)
    for name in ("sh", "sed", "grep", "chmod", "rm", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, text in FAKES.items():
        if name != without:
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
    for name, files in FILES.items():
        (machine / "files" / name).write_text("".join(f"{file}\n" for file in files))
    (machine / "installed").write_text("rpcbind\ntftpd-hpa\n")
    environment = {"PATH": str(programs), "MACHINE": str(machine), "DPKG_ROOT": str(machine), "FAILS": str(fails)}
    environment["USERID"] = str(uid)
    done = subprocess.run(
        ["tools/need", "bench"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )
    said = machine / "said"
    return done.returncode, (said.read_text() if said.exists() else done.stderr).splitlines()


def test_what_is_new_starts_neither_now_nor_at_the_next_boot(tmp_path: Path) -> None:
    """A unit that cannot be disabled does not keep the others from it."""
    assert need(tmp_path) == (0, ["guard 101", *UNITS, *SCRIPTS])
    assert list((tmp_path / "usr" / "sbin").iterdir()) == []


@pytest.mark.parametrize("fails", [0, 100])
def test_it_needs_no_systemd_and_no_success(tmp_path: Path, fails: int) -> None:
    assert need(tmp_path, without="systemctl", fails=fails) == (fails, ["guard 101", *SCRIPTS])
    assert list((tmp_path / "usr" / "sbin").iterdir()) == []


def test_who_is_not_root_is_told_what_to_run(tmp_path: Path) -> None:
    """This program again: apt-get alone would start the services."""
    code, said = need(tmp_path, uid=1000)
    assert (code, said) == (
        3,
        [
            "need: these Debian packages are missing: nginx-light",
            "need: run this line, then the same command again: sudo tools/need bench",
        ],
    )
    assert (tmp_path / "installed").read_text() == "rpcbind\ntftpd-hpa\n"
