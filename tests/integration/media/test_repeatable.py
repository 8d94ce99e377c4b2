"""Base media of one kernel and initrd are the same bytes, by any user, at any time and place, on any machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.fixtures.media import archive, image_archive, kernel, write

HERE = {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}
ELSEWHERE = {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1"}


def imported(directory: Path, environment: dict[str, str], umask: int, *before: str) -> dict[str, str]:
    """Import the same kernel and initrds by a process of its own, started by the words `before`; hashes of the base."""
    directory.mkdir(parents=True)
    (directory / "home").mkdir()
    (directory / "home" / ".xorrisorc").write_text(f"-volid U{umask}\n")
    sources = [write(directory / "k", kernel(payload=1 << 20)), write(directory / "i", image_archive())]
    sources.append(write(directory / "j", archive({"b": b"b" * 50_000})))
    for number, path in enumerate(directory.rglob("*")):
        os.utime(path, (umask + number, umask + number))
    state = directory / "state"
    start = [*before, sys.executable, "-c", "from provision.cli import main; main()", "--state", str(state)]
    command = ["image", "import", "base", "--kernel", str(sources[0]), "--cmdline", "quiet console=ttyS0"]
    command += ["--initrd", str(sources[1]), "--initrd", str(sources[2])]
    whole = {**os.environ, "HOME": str(directory / "home"), **environment}
    for words in (["init"], command):
        done = subprocess.run([*start, *words], env=whole, umask=umask, capture_output=True, cwd=directory, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
    [base] = [path for path in (state / "bases").iterdir() if path.is_dir()]
    files = sorted(path for path in base.rglob("*") if path.is_file())
    found = {str(path.relative_to(base)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {**found, "id": base.name}


def test_two_imports_in_other_circumstances_give_the_same_bytes(tmp_path: Path) -> None:
    one = imported(tmp_path / "a", HERE, 0o022)
    # One processor, and a user who is nobody special.
    before = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    before += ["unshare", "--user", "--map-user=1234", "--map-group=1234", "--"]
    other = imported(tmp_path / "b" / "somewhere else ö", ELSEWHERE, 0o077, *before)
    assert one == other
    assert {"base.iso", "base.disk", "refusal.iso", "base.json", "kernel", "initrd0.img"} < set(one)
