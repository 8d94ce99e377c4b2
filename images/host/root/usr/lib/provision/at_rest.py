"""The envelope of a host with a TPM and a disk, on that disk: docs/media-format.md, "A sealed record". Only an envelope
that was opened is kept."""

import json
import re
from pathlib import Path

import envelope
import record
import signed_seed
import tpm

PART, SEED = "/run/provision/sealed-part", "/run/provision/signed-seed"
"""The name of the configuration partition that the envelope may have, and the signed seed that the host has fetched."""
IDENTITY = "/run/provision/identity"
"""What this host says of the identity on its disk."""
ALIVE = "/etc/provision/alive.json"


class Disk:
    """The host's own disk; it has none unless the initramfs has left word of one."""

    def __init__(self, part=PART, seed=SEED, identity=IDENTITY):
        self._seed, self._identity, self._stored, self._partition = _read(seed), identity, None, None
        self.file, self._old_seed, self.number = b"", b"", 0
        if name := _read(part).decode().strip():
            self._partition = record.Partition(Path("/dev", name))

    def look(self, host, keys):
        """Find the envelope there, in `file`; `number` is its number when this site has signed it for this host."""
        try:
            found = self._partition and self._partition.kept()
        except OSError:
            found = None
        if not found:
            return
        self.file, self._old_seed = found
        try:
            stored = envelope.Envelope(self.file, keys)
        except (envelope.Refused, ValueError, KeyError, TypeError):
            return
        if stored.host == host:
            self._stored, self.number = stored, stored.number
        if self._old_seed and not signed_seed.is_of_site(self._old_seed, keys):
            self._old_seed = b""

    def keep(self, file, found, files, device, say):
        """Let the disk have the file of the envelope that was `found` to open, and what was fetched as the host's seed;
        and leave word of it."""
        if self._partition is None:
            return
        same = self._stored is not None and self._stored.says_as(found)
        seed = self._old_seed if signed_seed.is_same(self._seed, self._old_seed) else self._seed
        try:
            if not same or seed != self._old_seed:
                self._partition.write(record.pack(file, seed))
            if seed:
                device.raise_counter(signed_seed.NEWEST, signed_seed.sequence(seed))
            said = _stored_line(found.revision, files)
        except (OSError, tpm.TpmError) as error:
            why = getattr(error, "strerror", None) or str(error)
            say(f"provision-disk: the envelope is not stored: {why}")
            said = "refused " + re.sub(r"[^A-Za-z0-9 ,;:.()_/+='-]", " ", f"the envelope is not stored: {why}")[:200]
        if said:
            Path(self._identity).write_text(f"{said}\n")


def _stored_line(revision, files):
    """What the host says of its envelope; nothing without the key to say it with."""
    if ALIVE not in files:
        return ""
    versions = json.loads(files[ALIVE])["credentials"]
    return " ".join(("stored", revision, *(f"{name}={version}" for name, version in sorted(versions.items()))))


def _read(path):
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""
