"""What holds for all tests, however they are started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs commands in the background has them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast examples are made says something about the machine only.
settings.register_profile("provision", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("provision")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A host's programs set it for themselves; those that a test calls in its own process leave nothing behind."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
