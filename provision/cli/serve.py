"""serve: the service itself."""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import NoReturn

from provision.cli.context import context


def serve() -> None:
    """Serve boot files and the operator's socket.

    It serves every network of the settings until SIGTERM or Ctrl-C. A network that it cannot serve safely (a bridge
    with unlisted ports, the default route's interface) is refused.
    """
    # What is imported stays: to look through it again and again for what nothing refers to is a sixth of the start.
    gc.disable()
    try:
        from provision.server.run import run
    finally:
        gc.enable()
    run(context().settings())
    _end()


def _end() -> NoReturn:
    """End the process at once. A thread that nobody waits for, as one that tells a slow receiver of an event, would be
    in the middle of something when the interpreter takes its objects away, and crashes now and then."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
