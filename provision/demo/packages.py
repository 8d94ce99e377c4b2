"""Debian packages by the machine's own APT configuration: resolved and verified by apt, never installed."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

from provision import cpio, proc
from provision.errors import Unavailable

_MERGED = ("bin/", "sbin/", "lib/", "lib64/")
_ARCHIVES = "archives"
_LISTS = Path("/var/lib/apt/lists")


def lists_stamp() -> str:
    """A text that changes when apt's package lists change, so that an answer of apt can be remembered."""
    files = sorted(path for path in _LISTS.glob("*") if path.is_file())
    return "".join(f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}\n" for p in files)


def resolve(names: list[str], directory: Path) -> list[tuple[str, str]]:
    """File name and size (with a checksum, if any) of every package that `names` need on an empty machine, sorted.

    Raises Unavailable when apt does not know a package.
    """
    # apt does not list what its archive directory holds already, so it is shown an empty one.
    # Lines are: 'URL' FILE SIZE [MD5Sum:CHECKSUM]; suites that list stronger sums only show none here.
    lines = [line.split() for line in _apt(directory, "nothing", "--print-uris", *names).splitlines()]
    return sorted((line[1], " ".join(line[2:])) for line in lines if len(line) >= 3)


def fetch(names: list[str], directory: Path) -> None:
    """Download the packages that `names` need into `directory`, unless they are there; raises Unavailable."""
    _apt(directory, _ARCHIVES, "--download-only", *names)


def path_of(name: str, directory: Path) -> Path:
    """Where `fetch` puts the package file that `resolve` calls `name`."""
    return directory / _ARCHIVES / name


def read(package: Path, wanted: Callable[[str], bool]) -> Iterator[cpio.Entry]:
    """The files and links of a package whose path is `wanted`, with /bin, /sbin and /lib merged into /usr.

    Paths have no leading slash. Set-user-id bits, directories and device nodes do not come.
    """
    raw = proc.run(["dpkg-deb", "--fsys-tarfile", package], package="dpkg", timeout=300).stdout
    with tarfile.open(fileobj=BytesIO(raw)) as archive:
        for member in archive:
            path = merged(member.name.removeprefix("./"))
            if not wanted(path):
                continue
            if member.issym():
                yield cpio.symlink(path, merged_target(member.linkname))
            elif (stream := archive.extractfile(member)) is not None:
                yield cpio.Entry(path, stat.S_IFREG | (member.mode & 0o755), stream.read())


def merged(path: str) -> str:
    """A path of a package as it stands on a system whose /bin, /sbin and /lib are links into /usr."""
    return f"usr/{path}" if path.startswith(_MERGED) else path


def merged_target(target: str) -> str:
    """The same for the target of a symbolic link."""
    return f"/{merged(target[1:])}" if target.startswith("/") else target


def _apt(directory: Path, held: str, *arguments: str) -> str:
    # An empty status file makes apt resolve for an empty machine, so the answer depends on the package lists only.
    status = directory / "status"
    archives = directory / held
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    status.touch()
    options = {
        "Dir::State::status": str(status),
        "Dir::Cache::archives": str(archives),
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
    }
    given = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    argv = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *given, *arguments]
    try:
        return proc.run(argv, package="apt", timeout=900).stdout.decode()
    except Unavailable as error:
        raise Unavailable("probe image", error.fact, "run 'apt-get update' as root, then try again") from None
