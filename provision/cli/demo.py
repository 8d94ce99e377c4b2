"""demo: see it work, with nothing to set up."""

from __future__ import annotations

from provision.cli import output
from provision.cli.context import context


def demo() -> None:
    """Boot two virtual machines: one is served, one is refused.

    The first is on a private management LAN, the second on a guest LAN.
    Needs root (network namespaces) and the packages that `make demo` installs. Leaves nothing behind.
    """
    from provision.demo.show import show

    with output.stages(context().json) as progress:
        show(output.say, progress)
