"""The kept tree -> a squashfs, a small initramfs that mounts it, and one initrd of both. Same tree, same bytes."""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from provision import cpio, proc
from provision.errors import Invalid
from provision.image import tree
from provision.image.modules import Modules
from provision.image.patterns import compiled
from provision.image.recipe import Early, Squashfs
from provision.image.tree import Node

CLOCK = 1577836800
"""All times in an image: the first second of 2020 in UTC, as on the media."""
MARKER = cpio.file("etc/provision-seed-contract", b"1\n")
_BUSYBOX = "usr/bin/busybox"
HANDED = "handed"
"""The directory of the initramfs with files of the root that only the initramfs has; it hands them over."""


def complete(kept: Mapping[str, Node], known: Mapping[str, Node], made: Mapping[str, str]) -> dict[str, Node]:
    """The kept files with the directories above them, as packages have those; `made` are further ones by mode."""
    result = dict(kept)
    wanted = {path: tree.directory(path, int(mode, 8)) for path, mode in made.items()}
    for path in (*kept, *wanted):
        for parent in map(str, PurePosixPath(path).parents):
            if parent != "." and parent not in wanted:
                package = known.get(parent)
                is_directory = package is not None and package.is_directory
                wanted[parent] = package if package and is_directory else tree.directory(parent)
    for path, node in wanted.items():
        if path in kept:
            raise Invalid(f"/{path}", "is a file and has files below it", "correct the recipe's links or files")
        result[path] = node
    return dict(sorted(result.items(), key=lambda item: PurePosixPath(item[0]).parts))


def root(nodes: Sequence[Node], how: Squashfs, early: Early | None, target: Path) -> None:
    """Pack a complete, sorted tree as the archive that the initramfs finds: `root.squashfs`, and `early.squashfs` with
    the files that are read while a host starts."""
    apart = set(_apart(nodes, early.files)) if early else set()
    parts = [("root.squashfs", how, [n for n in nodes if n.is_directory or n.path not in apart])]
    if early and apart:
        parts.append(("early.squashfs", early.squashfs, [n for n in nodes if n.path in apart]))
    entries = []
    with tempfile.TemporaryDirectory(prefix="provision-squashfs-") as temporary:
        for name, way, chosen in parts:
            squashfs(chosen, way, packed := Path(temporary) / name)
            entries.append(cpio.file(name, packed.read_bytes()))
    target.write_bytes(cpio.pack(entries))


def _apart(nodes: Sequence[Node], patterns: Sequence[str]) -> Iterator[str]:
    """The paths of files and links that match, and of the directories above them."""
    expressions = [compiled(pattern) for pattern in patterns]
    for node in nodes:
        if not node.is_directory and any(e.fullmatch(f"/{node.path}") for e in expressions):
            yield node.path
            yield from map(str, PurePosixPath(node.path).parents)


def squashfs(nodes: Iterable[Node], how: Squashfs, target: Path) -> None:
    """Pack a complete, sorted tree; needs no privileges, for nothing of it is ever unpacked."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for node in nodes:
            _add(archive, node)
    argv = ["mksquashfs", "-", str(target), "-tar", "-noappend", "-no-progress", "-quiet"]
    argv += ["-reproducible", "-no-xattrs"]
    argv += ["-comp", how.compression, "-b", f"{how.block}K"]
    argv += ["-Xbcj", "x86"] if how.compression == "xz" else ["-Xcompression-level", str(how.level)]
    argv += ["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0"]
    # Not by options: mksquashfs refuses those where the caller's environment has this variable.
    env = {"SOURCE_DATE_EPOCH": str(CLOCK)}
    proc.run(argv, package="squashfs-tools", stdin=stream.getvalue(), env=env, timeout=3600)


def _add(archive: tarfile.TarFile, node: Node) -> None:
    member = tarfile.TarInfo(node.path)
    member.mode, member.mtime = stat.S_IMODE(node.mode), CLOCK
    if node.is_directory:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif node.is_link:
        member.type, member.linkname = tarfile.SYMTYPE, node.content.read().decode()
        archive.addfile(member)
    else:
        data = node.content.read()
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def initramfs(kept: Mapping[str, Node], applets: Sequence[str], modules: Sequence[Node], own: Iterable[Node]) -> bytes:
    """The small first archive, compressed: BusyBox, the modules that mount the root in their order, and `own` files.

    BusyBox and the modules stand below `handed/` at their paths in the root, and in the root's archives no second time.
    """
    entries = [cpio.symlink("bin/busybox", f"/{HANDED}/{_BUSYBOX}"), MARKER]
    entries += [cpio.file(f"{HANDED}/{n.path}", n.content.read(), n.mode & 0o7777) for n in (kept[_BUSYBOX], *modules)]
    entries += [cpio.symlink(f"bin/{applet}", "busybox") for applet in applets]
    order = "".join(f"/{HANDED}/{n.path}\n" for n in modules)
    entries.append(cpio.file("modules/order", order.encode()))
    entries += [cpio.Entry(n.path, n.mode, n.content.read()) for n in own]
    # What accounts the root has, so that an import knows the numbers of owners (docs/media-format.md).
    entries += [
        cpio.file(f"etc/provision-seed-{name}", kept[path].content.read())
        for name, path in (("passwd", "etc/passwd"), ("group", "etc/group"))
        if path in kept
    ]
    return _in_one_piece(entries)


def together(nodes: Iterable[Node]) -> bytes:
    """A further archive behind the initramfs, compressed, with files that the initramfs hands over; nothing of none.

    One piece is smaller than blocks of a squashfs, above all of programs that have parts in common; but all of it stays
    in the memory.
    """
    entries = [cpio.file(f"{HANDED}/{node.path}", node.content.read(), node.mode & 0o7777) for node in nodes]
    return _in_one_piece(entries) if entries else b""


def _in_one_piece(entries: Iterable[cpio.Entry]) -> bytes:
    """An archive as the kernel unpacks it: its decompressor knows no other check than CRC32. Nearly all is code."""
    argv = ["xz", "--x86", "--lzma2=preset=9e", "--check=crc32", "-T1", "-c"]
    return proc.run(argv, package="xz-utils", stdin=cpio.pack(cpio.tree(entries)), timeout=600).stdout


def handed(initramfs: bytes) -> Iterator[cpio.Entry]:
    """The files of the root that a packed initramfs hands over, by their paths in the root.

    Raises Invalid for what is not an archive.
    """
    try:
        # Not lzma.decompress, which takes the zeros behind the archive for a second one.
        archive = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(initramfs)
    except lzma.LZMAError:
        raise Invalid("initrd", "does not begin with an initramfs of this program", "build the image again") from None
    top = f"{HANDED}/"
    for entry in cpio.read(io.BytesIO(archive), "initrd"):
        if entry.path.startswith(top) and stat.S_ISREG(entry.mode):
            yield replace(entry, path=entry.path.removeprefix(top))


def load_order(names: Sequence[str], modules: Modules) -> Iterator[str]:
    """Paths of the named modules and of those they depend on, each after what it needs."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        module = modules.by_name.get(name)
        if module is None or name in done:
            return
        done.add(name)
        for dependency in module.depends:
            yield from visit(dependency)
        for wish in module.soft:
            for other in modules.asked(wish):
                yield from visit(other.name)
        yield module.path

    for name in names:
        if not modules.asked(name) and not modules.is_builtin(name):
            raise Invalid(name, "is not a module of this kernel", "correct 'initramfs: modules:' in the recipe")
        for module in modules.asked(name):
            yield from visit(module.name)


def initrd(*archives: bytes) -> bytes:
    """The archives of the initrd in their order: the compressed initramfs, perhaps more of it, and last the root as
    `root` has packed it."""
    # Loaders align what follows an archive only to 4 bytes, if at all.
    return b"".join(archive + bytes(-len(archive) % cpio.BLOCK) for archive in archives)
