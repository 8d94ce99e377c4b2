"""What maintainer scripts would have made, from what is kept: indexes, caches and bundles, by explicit steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from provision import proc
from provision.image import tree
from provision.image.modules import TOP, name_of
from provision.image.tree import Node

_AUTHORITIES = "usr/share/ca-certificates/"
_TEXTS = ("modules.alias", "modules.dep", "modules.symbols")
"""Indexes of which kmod reads the binary form."""
LIBRARY_CACHE = "etc/ld.so.cache"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def finish(kept: Mapping[str, Node], version: str) -> dict[str, Node]:
    """Everything that is kept and made of it; `version` is the kernel's.

    Raises Unavailable when depmod or ldconfig is missing or fails.
    """
    result = dict(kept)
    result |= {node.path: node for node in _module_order(kept, version)}
    result |= {node.path: node for node in _module_indexes(result, version)}
    result |= {node.path: node for node in _library_cache(kept)}
    result |= {node.path: node for node in _certificates(kept)}
    return {path: node for path, node in result.items() if not path.startswith(_AUTHORITIES)}


def _module_order(kept: Mapping[str, Node], version: str) -> Iterator[Node]:
    """The kernel's list of its modules, in the order in which depmod prefers them, without those that are left out."""
    top = f"{TOP}{version}/"
    if listed := kept.get(f"{top}modules.order"):
        lines = listed.content.read().decode().splitlines(keepends=True)
        here = "".join(line for line in lines if f"{top}{line.strip()}" in kept)
        yield tree.file(listed.path, here.encode(), listed.mode & 0o7777, source=listed.source)


def _module_indexes(kept: Mapping[str, Node], version: str) -> Iterator[Node]:
    """depmod's indexes for exactly the modules that are kept."""
    top = f"{TOP}{version}"
    wanted = [n for n in kept.values() if name_of(n.path) or n.path.startswith(f"{top}/modules.")]
    with tempfile.TemporaryDirectory(prefix="provision-depmod-") as temporary:
        root = Path(temporary)
        _place(root, wanted)
        (root / top).mkdir(parents=True, exist_ok=True)
        (root / "lib").symlink_to("usr/lib")
        proc.run(["depmod", "-b", temporary, version], package="kmod")
        for path in sorted(p for p in (root / top).glob("modules.*") if p.name not in _TEXTS):
            yield tree.file(f"{top}/{path.name}", path.read_bytes())


def _library_cache(kept: Mapping[str, Node]) -> Iterator[Node]:
    """The dynamic linker's cache; its programs do without, but look in more directories then."""
    wanted = [
        n
        for n in kept.values()
        if (".so" in n.path and n.path.startswith("usr/lib") and not name_of(n.path))
        or n.path.startswith("etc/ld.so.conf")
    ]
    with tempfile.TemporaryDirectory(prefix="provision-ldconfig-") as temporary:
        root = Path(temporary)
        _place(root, wanted)
        for name in ("lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        (root / "etc").mkdir(exist_ok=True)
        (root / "usr/lib").mkdir(parents=True, exist_ok=True)
        proc.run(["ldconfig", "-X", "-r", temporary], package="libc-bin")
        yield tree.file(LIBRARY_CACHE, (root / LIBRARY_CACHE).read_bytes())


def _certificates(kept: Mapping[str, Node]) -> Iterator[Node]:
    """All certificate authorities in the one file that OpenSSL and GnuTLS read."""
    nodes = [kept[path] for path in sorted(kept) if path.startswith(_AUTHORITIES)]
    found = [node.content.read() for node in nodes]
    if found:
        text = b"".join(text if text.endswith(b"\n") else text + b"\n" for text in found)
        # It is the package's, although that has it in pieces.
        yield tree.file(_BUNDLE, text, source=nodes[0].source)


def _place(root: Path, nodes: Iterable[Node]) -> None:
    for node in nodes:
        place = root / node.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if node.is_link:
            place.symlink_to(node.content.read().decode())
        else:
            place.write_bytes(node.content.read())
            place.chmod(0o755)
