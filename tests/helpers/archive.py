"""An archive of Debian packages in a directory, and an APT configuration that knows no other."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from provision import proc
from provision.image.tree import Node

_DIRECTORIES = ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "pool")


class Archive:
    """Packages that are added and removed; what apt knows of them follows with `update`.

    `configuration` is a file for $APT_CONFIG.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in _DIRECTORIES:
            (directory / name).mkdir(parents=True)
        self.pool = directory / "pool"
        self.configuration = directory / "apt.conf"
        sources = directory / "etc" / "sources.list"
        sources.write_text(f"deb [trusted=yes] file:{self.pool} ./\n")
        self.configuration.write_text(
            f'Dir::Etc "{directory}/etc";\nDir::Etc::sourceparts "-";\nDir::State "{directory}/state";\n'
            f'Dir::Cache "{directory}/cache";\nAPT::Sandbox::User "";\nAcquire::Languages "none";\n'
            f'Dir::Etc::main "-";\nDir::Etc::parts "{directory}/etc/apt.conf.d";\n'
        )
        self._paragraphs: dict[str, str] = {}

    def add(self, name: str, version: str, nodes: Iterable[Node] = (), depends: str = "") -> None:
        """Publish a version of a package that holds these files."""
        root = self.directory / "build"
        for node in nodes:
            path = root / node.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.is_link:
                path.symlink_to(node.content.read().decode())
            else:
                path.write_bytes(node.content.read())
                path.chmod(node.mode & 0o777)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: a package for a test\n"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(control)
        file = self.pool / f"{name}_{version}_all.deb"
        proc.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, file], package="dpkg")
        shutil.rmtree(root)
        data = file.read_bytes()
        self._paragraphs[file.name] = (
            f"{control}Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        self._publish()

    def replace(self, name: str, version: str, newer: str, nodes: Iterable[Node] = (), depends: str = "") -> None:
        """What an archive does with an update: the new version comes, the old one goes."""
        self.add(name, newer, nodes, depends)
        file = self.pool / f"{name}_{version}_all.deb"
        file.unlink()
        del self._paragraphs[file.name]
        self._publish()

    def vanish(self) -> None:
        """No package can be fetched any more, as on a machine without a network."""
        self.pool.rename(self.directory / "gone")

    def update(self) -> None:
        """Let apt read what is published, as the machine's administrator does."""
        proc.run(["apt-get", "update", "-qq"], package="apt", env={"APT_CONFIG": str(self.configuration)})

    def _publish(self) -> None:
        # Compressed, or apt keeps a link to the file instead of lists of its own.
        text = "\n".join(self._paragraphs.values()).encode()
        (self.pool / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
