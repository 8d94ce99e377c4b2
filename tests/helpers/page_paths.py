"""The pages that axe-core looks at in a browser, and what browsers get that is not a page."""

from __future__ import annotations

from tests.helpers.site_fixture import STRANGER

OTHER, THIRD = "52:54:00:00:00:98", "52:54:00:00:00:97"
"""Unknown machines of the small site, beside STRANGER."""
_NEW = "52:54:00:00:00:96"

SMALL = (
    "/hosts",
    "/hosts/node1",
    "/hosts/node2",
    "/hosts/node1/compromised",
    "/hosts/node1/decommission",
    f"/hosts/node1/move?macs={_NEW}",
    "/site",
    "/unknown",
    f"/unknown/adopt?mac={OTHER}&network=mgmt",
    "/inventory",
    "/images",
    "/networks",
    "/tpms",
    "/audit",
    "/audit/chain",
    "/tokens",
    "/docs",
)
"""Those of a small site (`tests/integration/web/test_browser.py`)."""

REFUSED = (
    "/hosts/nothing",
    "/hosts?search=nothing",
    "/hosts/node1/move?macs=x",
    f"/unknown/adopt?mac={STRANGER}&network=other",
)
"""What the same site says of what it does not have."""

MANY = {
    "site": "/site",
    "images": "/images",
    "hosts": "/hosts?state=stuck",
    "selection": "/selection?action=power-cycle&all=yes&search=node",
    "links": "/selection?action=link-disk&host=node1&host=node2",
    "bmc": "/hosts/node1/bmc",
    "power": "/hosts/node1/power",
    "rollout": "/rollout",
    "rollback": "/rollout/rollback",
    "host": "/hosts/node1",
}
"""Those of a large site with a BMC and a roll-out (`tests/integration/web/test_many_hosts.py`), each with a name."""

REACHED = ("/login", "/batches/0123456789ab")
"""Those that the same tests reach by a form."""

NO_PAGES = {
    "/",
    "/events",
    "/site/events",
    "/rollout/events",
    "/hosts/{name}/events",
    "/batches/{batch}/events",
    "/hosts/{name}/media/{medium}",
    "/docs/api.json",
    "/static/{file}",
}
"""Routes that answer browsers with something else: the way to another page, parts of one, files."""
