"""serve: the service itself."""

from __future__ import annotations

from provision.cli.context import context


def serve() -> None:
    """Serve: boot files on every network of the settings, and the operator's socket. Ends on SIGTERM or Ctrl-C.

    A network that cannot be served safely (a bridge with unlisted ports, the default route's interface) is refused.
    """
    from provision.server.run import run

    run(context().settings())
