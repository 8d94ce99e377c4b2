"""What persists: put over the root's own directories and files, in a mount namespace that stands for a host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.paths import ROOT

START = """\
import sys
from pathlib import Path
from tests.helpers.host_programs import load
load("gpt")
load("superblock")
data = load("data")
root = Path(sys.argv[1])
"""


def on_a_host(directory: Path, commands: str) -> str:
    """What a host prints that has `directory` as its root and starts now."""
    argv = ["unshare", "-m", sys.executable, "-c", START + commands, str(directory)]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_directory_persists_and_what_the_image_has_comes_first(tmp_path: Path) -> None:
    kept, place = tmp_path / "kept", tmp_path / "place"
    place.mkdir(mode=0o711)
    (place / "of-the-image").write_text("1")
    place.chmod(0o711)
    keep = "data.keep_tree(root / 'kept', root / 'place')\n"
    on_a_host(tmp_path, keep + "(root / 'place/of-the-host').write_text('2')\n")
    assert sorted(path.name for path in place.iterdir()) == ["of-the-image"]
    assert sorted(path.name for path in kept.iterdir()) == ["of-the-host", "of-the-image"]
    assert kept.stat().st_mode & 0o7777 == 0o711
    (place / "of-the-image").write_text("3")
    show = "print(*((root / 'place' / name).read_text() for name in ('of-the-host', 'of-the-image')))"
    assert on_a_host(tmp_path, keep + show).split() == ["2", "3"]


def test_ssh_host_keys_are_made_once_and_those_of_a_seed_come_first(tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    keep = "data.keep_ssh_keys(root / 'kept', root / 'ssh')\n"
    show = "print((root / 'ssh/ssh_host_ed25519_key.pub').read_text())"
    first = on_a_host(tmp_path, keep + show)
    assert first.startswith("ssh-ed25519 ")
    assert not any(path.stat().st_size for path in (tmp_path / "ssh").iterdir()), "they stand on the partition alone"
    for path in (tmp_path / "ssh").iterdir():
        path.unlink()
    for name in ("ssh_host_ed25519_key", "ssh_host_ecdsa_key"):
        assert (tmp_path / "kept" / name).stat().st_mode & 0o777 == 0o600
    # The power went when the private half had its name already.
    (tmp_path / "kept/ssh_host_ecdsa_key.pub").unlink()
    assert on_a_host(tmp_path, keep + show) == first
    for path in (tmp_path / "ssh").iterdir():
        path.unlink()
    (tmp_path / "ssh/ssh_host_ed25519_key").write_text("of the seed")
    show = "print((root / 'ssh/ssh_host_ed25519_key').read_text())"
    assert on_a_host(tmp_path, keep + show).strip() == "of the seed"


def test_what_cannot_be_mounted_is_said(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    commands = """
try:
    data.attach(root / "missing", root / "place")
except data.Refused as error:
    print(error)
"""
    assert on_a_host(tmp_path, commands).strip() == f"{tmp_path}/place cannot be mounted: No such file or directory"
