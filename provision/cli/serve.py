"""serve: the service itself."""

from __future__ import annotations

from provision.cli.context import context


def serve() -> None:
    """Serve boot files and the operator's socket.

    It serves every network of the settings until SIGTERM or Ctrl-C. A network that it cannot serve safely (a bridge
    with unlisted ports, the default route's interface) is refused.
    """
    from provision.server.run import run

    run(context().settings())
