"""A seed written by hand from docs/media-format.md, so that the probe is tested against the contract itself."""

from __future__ import annotations

import hashlib
import json

from provision import cpio

KEYTAB = b"\x05\x02canary-keytab-bytes"


def network(name: str, mac: str, address: str) -> dict[str, tuple[int, bytes]]:
    """A systemd-networkd file for one NIC with a static address."""
    text = f"[Match]\nPermanentMACAddress={mac}\n\n[Network]\nAddress={address}\nLinkLocalAddressing=no\n"
    return {f"/etc/systemd/network/10-{name}.network": (0o644, text.encode())}


def files(host: str, phone_home: dict[str, str] | None = None) -> dict[str, tuple[int, bytes]]:
    """The least a host gets: name, keytab, host.json."""
    about = {"host": host, "revision": "ab" * 32, "servers": {}} | ({"phone_home": phone_home} if phone_home else {})
    return {
        "/etc/hostname": (0o644, f"{host}\n".encode()),
        "/etc/krb5.keytab": (0o600, KEYTAB),
        "/etc/provision/host.json": (0o600, json.dumps(about).encode()),
    }


def manifest(host: str, tree: dict[str, tuple[int, bytes]], revision: str = "ab" * 32) -> bytes:
    """The manifest of `tree` (path: mode, contents): a header line, one line per file, a closing line."""
    lines = [
        json.dumps(
            {
                "mode": f"0{mode:o}",
                "owner": "0:0",
                "path": path,
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
            },
        )
        for path, (mode, data) in sorted(tree.items())
    ]
    head = json.dumps({"format": 1, "host": host, "revision": revision})[:-1]
    return (head + ', "files": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def seed(
    host: str,
    tree: dict[str, tuple[int, bytes]],
    written: dict[str, tuple[int, bytes]] | None = None,
    revision: str = "ab" * 32,
) -> bytes:
    """The archive; `written`, when given, is what is really in it while the manifest speaks of `tree`."""
    entries = cpio.tree(
        [cpio.directory("provision-seed", 0o700)]
        + [
            cpio.file(f"provision-seed/root{path}", data, mode)
            for path, (mode, data) in (tree if written is None else written).items()
        ]
    )
    return cpio.pack((*entries, cpio.file("provision-seed/manifest.json", manifest(host, tree, revision), 0o600)))
