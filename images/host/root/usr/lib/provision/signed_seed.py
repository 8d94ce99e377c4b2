"""Reads a signed seed: docs/media-format.md, "Signed seeds"."""

import json
import re

import placing
import signed_file
from signed_file import Refused

FORMAT = "provision-signed-seed 1"
_ABOUT = re.compile(rb"([a-z0-9-]{1,63}) ([0-9a-f]{64}) ([0-9]{1,18}) ([0-9a-f]{32})")
_HOST_JSON = "/etc/provision/host.json"


def archive(file, keys, nonce, macs):
    """The seed's archive, when the site has signed it for this machine, which has these MACs, and this very request.
    Raises Refused."""
    signed = signed_file.content(file, FORMAT, keys, "seed")
    line, _, content = signed.partition(b"\n")
    about = _ABOUT.fullmatch(line)
    if about is None:
        raise Refused("the seed does not say what it is")
    if about[4].decode() != nonce:
        raise Refused("the seed is one that was made for an earlier request")
    _require_own(content, macs)
    return content


def _require_own(content, macs):
    """Who asks for another machine's seed in its name, and passes it on, gives this one a stranger's identity."""
    try:
        found = next(data for path, _, _, data in placing.files(content) if path == _HOST_JSON)
        said = json.loads(found)
        own = {mac for interface in said["interfaces"].values() for mac in interface["macs"]}
    except (placing.Damaged, StopIteration, ValueError, KeyError, TypeError, AttributeError):
        raise Refused("the seed does not say whose it is") from None
    if not own & set(macs):
        raise Refused(f"the seed is {said['host']}'s, which has no NIC of this machine")
