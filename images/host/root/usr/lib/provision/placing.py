"""Puts the files of a seed's archive at their places in the running host: docs/media-format.md, "Taking the seed"."""

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

ROOT, MANIFEST = "provision-seed/root", "provision-seed/manifest.json"
SIGNATURE = "provision-seed/signature"
_PATH = re.compile(r"/etc(/[A-Za-z0-9_@%+-][A-Za-z0-9_.@%+-]*)+")
_NEW = ".provision-new"


class Damaged(Exception):
    """What is wrong with the archive; nothing was put anywhere."""


def manifest(archive):
    """What the archive (newc, see cpio(5)) says of itself, as it stands there."""
    for name, content in _members(archive):
        if name == MANIFEST:
            return content
    raise Damaged("it has no manifest")


def files(archive):
    """The files that the archive lists, each once, with the content that the manifest says."""
    members, listed = dict(_members(archive)), json.loads(manifest(archive))["files"]
    del members[MANIFEST]
    members.pop(SIGNATURE, None)
    if {f"{ROOT}{file['path']}" for file in listed} != set(members) or len(listed) != len(members):
        raise Damaged("it has other files than its manifest")
    for file in listed:
        content = members[f"{ROOT}{file['path']}"]
        if hashlib.sha256(content).hexdigest() != file["sha256"] or not _PATH.fullmatch(file["path"]):
            raise Damaged(f"{file['path']} is not what its manifest says")
        user, group = map(int, file["owner"].split(":"))
        yield file["path"], int(file["mode"], 8), (user, group), content


def put(found, root=""):
    """Write the files below `root`: beside, then renamed; never through a link, and readable for nobody else before."""
    for path, mode, owner, content in found:
        place = Path(root + path)
        for parent in reversed(place.parents[: path.count("/") - 1]):
            with suppress(FileExistsError):
                parent.mkdir()
                parent.chmod(0o755)
            if not stat.S_ISDIR(parent.lstat().st_mode):
                raise OSError(f"{parent} is not a directory")
        temporary = place.with_name(_NEW)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
        temporary.rename(place)


def _members(archive):
    """Name and content of each regular file."""
    at = 0
    while True:
        if archive[at : at + 6] != b"070701":
            raise Damaged("it is not an archive")
        head = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = head[1], head[6], head[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = at + (110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return
        content = archive[start : start + size]
        if len(content) != size:
            raise Damaged("it was cut off")
        if stat.S_ISREG(mode):
            yield name, content
        at = start + (size + 3) // 4 * 4
