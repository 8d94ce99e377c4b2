"""Publishing images: whole ones only, one current, N kept, and a break between any two steps does no harm."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from provision import cpio
from provision.errors import Conflict, Exit, Invalid, NotFound, Unavailable
from provision.image import bom, lock, publish
from provision.image.cache import digest
from provision.image.publish import CURRENT, RECORD, Published
from tests.helpers.cli_runner import cli
from tests.helpers.killing import killed_before


def image(directory: Path, number: int, **more: Any) -> Path:
    """A built image's directory, with files that are only the right ones; `number` makes version and content."""
    directory.mkdir(parents=True)
    root = b"root" * number
    files = {
        "vmlinuz": b"kernel",
        "initrd": bytes(cpio.BLOCK) + (packed := cpio.pack([cpio.file("root.squashfs", root)])),
    }
    said = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    about = {"format": 1, "name": "tiny", "version": f"{number:012x}", "platform": None, "id": digest(said)}
    about |= {"kernel_version": "6.1", "files": said, "root_size": len(packed), "root_files": 1, **more}
    row = {
        "path": "/a",
        "mode": "0644",
        "size": number,
        "sha256": hashlib.sha256(root).hexdigest(),
        "package": "recipe",
    }
    own = {"name": "recipe", "version": "", "files": 1, "size": number, "packed": number}
    report = {"format": 1, "image": about, "packages": [own], "files": [row], "tools": {}, "recipe": {}}
    texts = {"image.json": json.dumps(about), "report.json": json.dumps(report), "report.html": "<p>"}
    texts[lock.FILE] = lock.Lock((), (), {}).text()
    files |= {name: text.encode() for name, text in texts.items()} | {bom.FILE: bom.bom(report).encode()}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def name(number: int) -> str:
    return f"tiny-{number:012x}"


def visible(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if not path.name.startswith(".")}


def leads_to(root: Path) -> str:
    return str((root / CURRENT).readlink())


def test_the_newest_is_current_and_old_ones_go(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    for number in (1, 2, 3, 4):
        done = publish.publish(image(tmp_path / str(number), number), root, 2)
    assert done == Published(root / name(4), name(3), 2, (name(2),))
    assert visible(root) == {CURRENT, name(3), name(4)} and leads_to(root) == name(4)
    record = json.loads((root / CURRENT / RECORD).read_text())
    assert (record["number"], record["previous"], record["problem"]) == (4, name(3), None)
    assert {(c["kind"], c["name"]) for c in record["changes"]} == {("size", "initrd"), ("file", "/a")}
    for file in publish.FILES:
        assert (root / name(4) / file).read_bytes() == (tmp_path / "4" / file).read_bytes()
        assert (root / name(4) / file).stat().st_mode & 0o777 == 0o644
    assert [path.name for path in root.glob(".*")] == [".lock"]


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    source, root = image(tmp_path / "a", 1), tmp_path / "root"
    publish.publish(source, root, 1)
    before = (root / name(1) / RECORD).stat()
    assert publish.publish(source, root, 1) == Published(root / name(1), None, None, ())
    assert (root / name(1) / RECORD).stat() == before


def test_what_is_current_is_never_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sources = {number: image(tmp_path / str(number), number) for number in (1, 2, 3)}
    for source in sources.values():
        publish.publish(source, root, 3)
    # Back to the oldest, by the operator's hand or by publishing it again.
    assert publish.publish(sources[1], root, 1).removed == (name(2),)
    assert visible(root) == {CURRENT, name(1), name(3)} and leads_to(root) == name(1)
    (root / "notes").mkdir()
    (root / name(9)).mkdir()
    publish.publish(sources[3], root, 1)
    assert visible(root) == {CURRENT, name(3), name(9), "notes"}, "what has no record is not ours"


@pytest.mark.parametrize("file", ["vmlinuz", "initrd", "report.json", "image.json", "lock.json"])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, file: str) -> None:
    root = tmp_path / "root"
    publish.publish(image(tmp_path / "a", 1), root, 1)
    bad = image(tmp_path / "b", 2)
    shutil.copyfile(tmp_path / "a" / file, bad / file)
    (bad / file).write_bytes((bad / file).read_bytes().replace(b"kernel", b"Kernel").replace(b"wanted", b"Wanted"))
    with pytest.raises(Invalid):
        publish.publish(bad, root, 1)
    (bad / file).unlink()
    with pytest.raises(NotFound):
        publish.publish(bad, root, 1)
    assert visible(root) == {CURRENT, name(1)} and leads_to(root) == name(1)


def test_a_bill_of_another_image_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "a", 1)
    bad = image(tmp_path / "b", 2)
    shutil.copyfile(tmp_path / "a" / bom.FILE, bad / bom.FILE)
    with pytest.raises(Conflict):
        publish.publish(bad, tmp_path / "root", 1)
    (bad / bom.FILE).unlink()
    with pytest.raises(NotFound, match=r"bom.cdx.json: is missing"):
        publish.publish(bad, tmp_path / "root", 1)
    assert visible(tmp_path / "root") == set()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    publish.publish(image(tmp_path / "a", 1), root, 1)
    with pytest.raises(Conflict, match="images of tiny for all platforms, and this is one of tiny for q35"):
        publish.publish(image(tmp_path / "b", 2, platform="q35"), root, 1)
    with pytest.raises(Conflict, match="is published with other bytes"):
        publish.publish(image(tmp_path / "c", 3, version=f"{1:012x}"), root, 1)
    with pytest.raises(Invalid, match="which is not a valid name"):
        publish.publish(image(tmp_path / "d", 4, name="../tiny"), root, 1)
    with publish._locked(root), pytest.raises(Conflict, match="another image is being published"):
        publish.publish(tmp_path / "a", root, 1)
    assert visible(root) == {CURRENT, name(1)}


def test_a_link_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    source, root = image(tmp_path / "a", 1), tmp_path / "root"
    (root / CURRENT).mkdir(parents=True)
    with pytest.raises(Conflict, match="is not a link"):
        publish.publish(source, root, 1)
    (root / CURRENT).rmdir()
    (root / CURRENT).symlink_to("/etc")
    with pytest.raises(Conflict, match="leads to /etc"):
        publish.publish(source, root, 1)


def test_damage_is_mended_and_holds_nothing_up(tmp_path: Path) -> None:
    root, first = tmp_path / "root", image(tmp_path / "a", 1)
    publish.publish(first, root, 2)
    (root / name(1) / "initrd").write_bytes(b"")
    publish.publish(first, root, 2)
    assert (root / name(1) / "initrd").read_bytes() == (first / "initrd").read_bytes()
    (root / name(1) / "report.json").write_text("{")
    done = publish.publish(image(tmp_path / "b", 2), root, 2)
    assert (done.previous, done.changes) == (name(1), None)
    assert "report.json" in json.loads((root / CURRENT / RECORD).read_text())["problem"]


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"cannot be read or written \(Not a directory\)"):
        publish.publish(image(tmp_path / "a", 1), tmp_path / "file" / "root", 1)


def test_a_kill_between_any_two_steps_leaves_a_whole_current_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {number: image(tmp_path / str(number), number) for number in (1, 2, 3)}
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / f"root{step}"
        for number in (1, 2):
            publish.publish(sources[number], root, 2)
        killed = killed_before(step, lambda root=root: publish.publish(sources[3], root, 2), monkeypatch)  # type: ignore[misc]
        assert leads_to(root) in (name(2), name(3))
        assert all(publish._is_whole(root / found) for found in visible(root)), step
        publish.publish(sources[3], root, 2)
        assert visible(root) == {CURRENT, name(2), name(3)} and leads_to(root) == name(3)
        assert [path.name for path in root.glob(".*")] == [".lock"]
        assert json.loads((root / CURRENT / RECORD).read_text())["previous"] == name(2)
    assert step > 20, "so many steps there are at least"


def test_the_command(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in (1, 2, 3):
        ran = cli(tmp_path, "image", "publish", image(tmp_path / str(number), number), "--to", root, "--keep", "2")
        assert ran.code == 0, ran
    assert ran.out.splitlines()[0] == f"{root / name(3)} is current"
    assert f"removed {name(1)}" in ran.out and f"{name(2)} was current before; " in ran.out
    told = cli(tmp_path, "image", "publish", tmp_path / "3", "--to", root, "--json").json
    assert told == {"directory": str(root / name(3)), "previous": None, "changes": None, "removed": []}
    ran = cli(tmp_path, "image", "publish", tmp_path / "none", "--to", root)
    assert (ran.code, ran.err.count("\n")) == (Exit.NOT_FOUND, 1)
    assert cli(tmp_path, "image", "publish", tmp_path / "3", "--to", root, "--keep", "0").code == Exit.USAGE
