"""kill -9 in the middle of what a test does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def killed(action: Callable[[], Any]) -> None:
    """Do it in a process that is killed on the way."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it was not killed"


def kill(*_: object, **__: object) -> Any:
    """What stands in for the function at which the process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
