"""What holds for all tests, however they are started."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell that runs commands in the background has them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast examples are made says something about the machine only.
settings.register_profile("provision", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("provision")
