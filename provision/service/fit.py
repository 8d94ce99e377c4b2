"""Whether the parts of a host's image fit together: the credentials beside the files that its seed has anyway."""

from __future__ import annotations

from collections.abc import Mapping

from provision import seed as seeds
from provision.host import Host
from provision.site import Site


def obstruction(host: Host, site: Site, path: str, places: Mapping[str, str]) -> str:
    """Why no credential of `host` can stand at `path` beside its others, whose paths are `places`; "" when it can."""
    if other := seeds.obstacle(host, site, path):
        return f"no credential can stand at {path}: the seed has {other} anyway"
    rival = next((name for name, place in places.items() if seeds.overlap(path, place)), None)
    return f"no credential can stand at {path} beside '{rival}' at {places[rival]}" if rival else ""
