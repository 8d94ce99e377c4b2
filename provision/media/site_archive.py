"""What every host of a site is told by its signed image: whom it believes, and where the server is. No secret, and the
same for all hosts (docs/media-format.md, "The site archive")."""

from __future__ import annotations

from collections.abc import Sequence

from provision import cpio

DIRECTORY = "provision-site"
SIGNING, APPROVAL, SERVERS, VLANS = "signing", "approval", "servers", "vlans"


def site_archive(
    signing: Sequence[bytes], approval: Sequence[bytes], servers: Sequence[str], vlans: Sequence[int] = ()
) -> bytes:
    """The archive: Ed25519 keys (32 bytes each), P-256 keys (TPM2B_PUBLIC each), URLs of boot listeners without a path,
    and the VLANs that they may be on. In each file one on a line, keys in hex; no file without VLANs."""
    files = {
        SIGNING: [key.hex() for key in signing],
        APPROVAL: [key.hex() for key in approval],
        SERVERS: servers,
        **({VLANS: [str(vlan) for vlan in vlans]} if vlans else {}),
    }
    texts = {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in files.items()}
    return cpio.pack(cpio.tree(cpio.file(f"{DIRECTORY}/{name}", text) for name, text in texts.items()))
