"""Debian packages by the machine's own APT configuration: resolved and verified by apt, never installed."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from debian.deb822 import Packages

from provision import proc
from provision.below import is_relative
from provision.errors import Invalid, Unavailable

Progress = Callable[[str, float], None]
"""Called with what is being done and how far it is, 0 to 1."""

_MERGED = ("bin/", "sbin/", "lib/", "lib64/")
_TOGETHER = 24
_PACKED = ".ko.xz"
_UPDATE = "run 'apt-get update' as root, then try again"

Lists = tuple[str, ...]
"""apt's options that name the package lists to read; none for this machine's own."""


@dataclass(frozen=True, order=True)
class Package:
    """One version of a package, and the SHA-256 of its file; `size` is that file's, in bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The name that `apt-get download` gives the file: a colon of the version is escaped."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def pin(names: Sequence[str], directory: Path, lists: Lists = ()) -> list[Package]:
    """Every package that `names` need on an empty machine, with its version and the checksum apt's lists have.

    Raises Unavailable when apt does not know a package, or has no SHA-256 of one.
    """
    # Lines are: Inst NAME (VERSION ORIGIN [ARCHITECTURE]) ...
    lines = [line.split() for line in _resolution(directory, *lists, *names).splitlines()]
    wanted = [f"{line[1].partition(':')[0]}={line[2].lstrip('(')}" for line in lines if line[:1] == ["Inst"]]
    known = {(p.name, p.version): p for p in _shown(wanted, lists)}
    missing = [want for want in wanted if tuple(want.split("=", 1)) not in known]
    if missing:
        raise Unavailable(missing[0], "has no SHA-256 in the package lists", "run 'apt-get update' as root")
    return sorted(known.values())


def listed(wanted: Iterable[Package], lists: Lists = ()) -> set[Package]:
    """Those of the `wanted` packages that an archive offers, by the package lists: this version, with this content."""
    asked = set(wanted)
    return asked & set(_shown(sorted({package.name for package in asked}), lists))


def fresh_lists(directory: Path) -> Lists:
    """Package lists of today, fetched into `directory` and read from there; the machine's own stay as they are.

    Raises Unavailable when apt cannot fetch them.
    """
    (directory / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (directory / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    lists = ("-o", f"Dir::State::lists={directory / 'lists'}", "-o", f"Dir::Cache={directory}")
    argv = ["apt-get", "update", "-qq", "-o", "APT::Sandbox::User=", *lists]
    try:
        proc.run(argv, package="apt", timeout=900)
    except Unavailable as error:
        raise Unavailable("package lists", error.fact, "look at the network and APT's sources") from None
    return lists


def _shown(wanted: Sequence[str], lists: Lists = ()) -> Iterator[Package]:
    # Of names and versions that it does not know apt-cache complains; it fails when it knows none.
    argv = ["apt-cache", "show", *lists, *wanted]
    text = proc.run(argv, package="apt", ok=(0, 100)).stdout.decode() if wanted else ""
    for fields in Packages.iter_paragraphs(text, use_apt_pkg=False):
        if "SHA256" in fields:
            yield Package(
                fields["Package"], fields["Version"], fields["Architecture"], fields["SHA256"], int(fields["Size"])
            )


def fetch_pinned(pinned: Iterable[Package], directory: Path, progress: Progress, lists: Lists = ()) -> None:
    """Have the file of every package in `directory`, verified; each stands at `pinned_path`.

    Raises Unavailable when no configured archive has that version any more, and Invalid when a file differs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = list(pinned)
    missing = absent(wanted, directory)
    for start in range(0, len(missing), _TOGETHER):
        progress("downloading packages", start / len(missing))
        _download(missing[start : start + _TOGETHER], directory, lists)
    for package in wanted:
        # apt gives a file the archive's time; the cache forgets first what was not of use for the longest time.
        os.utime(pinned_path(package, directory))


def absent(pinned: Iterable[Package], directory: Path) -> list[Package]:
    """The packages whose file is not in `directory` yet."""
    return [package for package in pinned if not pinned_path(package, directory).exists()]


def pinned_path(package: Package, directory: Path) -> Path:
    """Where `fetch_pinned` puts a package: by content, so that a file that is there is the right one."""
    return directory / f"{package.sha256}.deb"


def _download(batch: Sequence[Package], directory: Path, lists: Lists) -> None:
    with tempfile.TemporaryDirectory(prefix="new-", dir=directory) as temporary:
        wanted = [f"{package.name}={package.version}" for package in batch]
        argv = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=", *lists, *wanted]
        try:
            proc.run(argv, package="apt", cwd=Path(temporary), timeout=1800)
        except Unavailable as error:
            remedy = "run 'apt-get update' as root; when a version is gone from the archive, give --allow-newer"
            raise Unavailable("packages", error.fact, remedy) from None
        for package in batch:
            file = Path(temporary) / package.file_name
            found = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "missing"
            if found != package.sha256:
                fact = f"the file of {package.version} has SHA-256 {found:.16}..., the lock {package.sha256:.16}..."
                raise Invalid(package.name, fact, "find out who changed it, or give another --lock")
            file.rename(pinned_path(package, directory))


def unpacked(package: Path) -> bytes:
    """The files of a package as an uncompressed tar archive, its kernel modules uncompressed too."""
    return plain_modules(proc.run(["dpkg-deb", "--fsys-tarfile", package], package="dpkg", timeout=300).stdout)


def plain_modules(archive: bytes) -> bytes:
    """A package's files with its kernel modules uncompressed.

    The image is packed as a whole, which packs them better, and neither BusyBox nor what reads them here unpacks them.
    """
    if _PACKED.encode() not in archive:
        return archive
    stream = BytesIO()
    with (
        tarfile.open(fileobj=BytesIO(archive)) as packed,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as plain,
    ):
        for member in packed:
            data = packed.extractfile(member) if member.isreg() else None
            if data is not None and member.name.endswith(_PACKED):
                content = lzma.decompress(data.read())
                member.name, member.size = member.name.removesuffix(".xz"), len(content)
                data = BytesIO(content)
            plain.addfile(member, data)
    return stream.getvalue()


def require_relative(path: str, package: str) -> None:
    """Raise Invalid for the path of a package's member that is not relative and normal."""
    if not is_relative(path):
        raise Invalid(package, "has a member whose path is not relative and normal", "find out who made the package")


def merged(path: str) -> str:
    """A path of a package as it stands on a system whose /bin, /sbin and /lib are links into /usr."""
    return f"usr/{path}" if path.startswith(_MERGED) else path


def merged_target(target: str) -> str:
    """The same for the target of a symbolic link."""
    return f"/{merged(target[1:])}" if target.startswith("/") else target


def _resolution(directory: Path, *arguments: str) -> str:
    # An empty status file makes apt resolve for an empty machine, so the answer depends on the package lists only.
    status = directory / "status"
    archives = directory / "nothing"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    status.touch()
    options = {
        "Dir::State::status": str(status),
        "Dir::Cache::archives": str(archives),
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
    }
    given = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    argv = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "--simulate", *given, *arguments]
    try:
        return proc.run(argv, package="apt", timeout=900).stdout.decode()
    except Unavailable as error:
        raise Unavailable("packages", error.fact, _UPDATE) from None
