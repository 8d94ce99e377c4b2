"""demo: see it work, with nothing to set up."""

from __future__ import annotations

from provision.cli import output
from provision.cli.context import context


def demo() -> None:
    """Power on a virtual machine that boots on a private management LAN, then one on a guest LAN that is refused.

    Needs root (network namespaces) and the packages that `make demo` installs. Leaves nothing behind.
    """
    from provision.demo.show import show

    with output.stages(context().json) as progress:
        show(output.say, progress)
