"""Reads a signed seed: docs/media-format.md, "Signed seeds"."""

import json
import re

import placing
import signed_file
from signed_file import Refused

FORMAT = "provision-signed-seed 1"
NEWEST = 0x01805058
"""The NV index that remembers the number of the newest seed that was stored on the host's own disk."""
_ABOUT = re.compile(rb"([a-z0-9-]{1,63}) ([0-9a-f]{64}) ([0-9]{1,18}) ([0-9a-f]{32})")
_HOST_JSON = "/etc/provision/host.json"


def archive(file, keys, nonce, macs):
    """The seed's archive, when the site has signed it for this machine, which has these MACs, and this very request.
    Raises Refused."""
    about, content = _opened(file, keys)
    if about[4].decode() != nonce:
        raise Refused("the seed is one that was made for an earlier request")
    _require_own(content, macs)
    return content


def stored_archive(file, keys, least, macs):
    """The same of the seed on the host's own disk, which is not older than the one with the number `least`."""
    about, content = _opened(file, keys)
    if int(about[3]) < least:
        raise Refused(f"the seed has the number {int(about[3])}, and {least} was stored already")
    _require_own(content, macs)
    return content


def is_of_site(file, keys):
    """Whether the site has signed it, whatever is in it."""
    try:
        _opened(file, keys)
    except Refused:
        return False
    return True


def is_same(one, other):
    """Whether two files have the same seed: number, nonce and signature are others every time."""
    return _content(one) == _content(other)


def sequence(file):
    """The number of a seed that was checked."""
    return int(_ABOUT.fullmatch(file.split(b"\n", 3)[2])[3])


def _content(file):
    return file.split(b"\n", 3)[-1]


def _opened(file, keys):
    """What the site has signed: the line about it, and the archive."""
    signed = signed_file.content(file, FORMAT, keys, "seed")
    line, _, content = signed.partition(b"\n")
    about = _ABOUT.fullmatch(line)
    if about is None:
        raise Refused("the seed does not say what it is")
    return about, content


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
