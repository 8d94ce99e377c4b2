"""kill -9 in the middle of what a test does."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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


def killed_before(step: int, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do the work in a process that kills itself before that step; whether it came so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*words: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*words, **more)

            return counted

        with monkeypatch.context() as patched:
            for where, called in (
                (Path, "rename"),
                (Path, "replace"),
                (Path, "symlink_to"),
                (Path, "mkdir"),
                (Path, "write_text"),
                (Path, "chmod"),
                (shutil, "copyfile"),
                (shutil, "rmtree"),
                (os, "fsync"),
                (os, "unlink"),
            ):
                patched.setattr(where, called, counting(getattr(where, called)))
            try:
                work()
            except BaseException:
                os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)
