"""What is sealed for a host's TPM: its credentials, in the form of a seed. docs/media-format.md, "The envelope".

Pure, as the seed is; secrets come in opened, and only together with a release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic_core import to_json

from provision import policy
from provision.policy import HostState
from provision.secret import Secret
from provision.seed import ALIVE_JSON, File, Seed, SeedCredential, add, archive, check_paths


def envelope_revision(state: HostState, owners: Mapping[str, str]) -> str:
    """The revision (hex SHA-256) of the host's envelope: of its inventory, and of what is sealed for it."""
    return hashlib.sha256(json.dumps([state.revision, sorted(owners.items())]).encode()).hexdigest()


def secrets(
    release: object,
    state: HostState,
    revision: str,
    credentials: Sequence[SeedCredential],
    now: datetime,
    alive: tuple[str, Secret] | None = None,
) -> Seed:
    """The host's credentials alone, in the form of a seed: what is sealed for its TPM; and for an image that goes on
    saying that it is `alive`, what it has come up from, and its key. Raises as `build` does."""
    policy.require_wrapped(release, state, now)
    tree: dict[str, File] = {}
    if alive is not None:
        boot, key = alive
        told = {
            "alive": {"boot": boot, "key": key.reveal().hex()},
            "credentials": {c.name: c.version for c in credentials},
        }
        tree[ALIVE_JSON] = File(to_json(told, indent=2) + b"\n", "0600")
    for credential in credentials:
        add(tree, state.host, credential)
    check_paths(tree, state.host)
    return Seed(revision, archive(state.host.name, revision, tree))
