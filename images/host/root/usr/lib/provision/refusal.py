"""What an answer says that is not what was asked for (RFC 9457), and whether it is a provisioning server's no."""

import json
import re

OTHER = "it does not answer as a provisioning server"
_LATER, _CANNOT = (410, 429), ("store-not-trusted", "clock-went-back")


def read(status, content):
    """The reason in words for a console; and whether the server says no to this host. It does not when it cannot answer
    now, nor does whatever else answers there."""
    try:
        said = json.loads(content)
        text = re.sub(r"[^ -~]", "?", str(said["detail"])[:600])
        return text, status < 500 and status not in _LATER and said.get("rule") not in _CANNOT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return OTHER, False
