"""What holds for all tests, however they are started."""

from __future__ import annotations

import signal

# A shell that runs commands in the background has them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
