"""Somebody on a LAN who comes in by SSH: OpenSSH's client in the server's namespace."""

from __future__ import annotations

from pathlib import Path

from provision import proc
from provision.lab.lans import Lab

_OPTIONS = (
    "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentityAgent=none"
    " -o IdentitiesOnly=yes -o LogLevel=ERROR -o ConnectTimeout=20"
)
# It tries until the host is up, and waits there: newer servers keep off who tries too often in vain. What it says at
# last, it says in the host's own file.
_SCRIPT = """\
host=root@$1 place=$2
options="{options}"
with_key="$options -i $3"
until ssh $with_key $host "until test -s $place/sent; do sleep 1; done"; do sleep 1; done
scp -q $with_key $host:$place/sent $4 && scp -q $with_key $4 $host:$place/received
if ssh $options -i none $host true 2>/dev/null; then said=anybody; else said=nobody; fi
ssh $with_key $host "echo $said >$place/said.new; mv $place/said.new $place/said"
"""


def visitor(lab: Lab, address: str, place: str) -> str:
    """Visit root at an address, as soon as the host is up and lets in the returned public key.

    The visitor waits there for `sent` in the directory `place`, copies it to `received` beside it, and writes `said`:
    who comes in without a key, `nobody` or `anybody`. Raises Unavailable when OpenSSH's client is missing.
    """
    identity = lab.directory / "identity"
    proc.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "visitor", "-f", identity], package="openssh-client")
    script = _SCRIPT.format(options=_OPTIONS)
    argv: list[str | Path] = ["sh", "-c", script, "visitor", address, place, identity, lab.directory / "copied"]
    lab.spawn(lab.server, argv, package="dash", log="visitor.log")
    return identity.with_suffix(".pub").read_text().strip()
