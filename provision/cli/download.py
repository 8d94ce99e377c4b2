"""Writing a medium to a file: sparse, beside and then renamed, private, checked."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provision.cli.client import Client
from provision.errors import Unavailable

_BLOCK = 4096
_ZERO = bytes(_BLOCK)


@dataclass(frozen=True)
class Written:
    """What was written: size in bytes and the medium's entity tag."""

    size: int
    etag: str


def download(client: Client, url: str, path: Path, progress: Callable[[int], None]) -> Written:
    """Write the medium at `url` to `path` (0600: it carries secrets); raises Unavailable and leaves nothing then.

    Runs of zeros become holes. The file appears under its name only when it is whole.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with client.stream("GET", url) as answer:
            size = int(answer.headers["content-length"])
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                done = 0
                for chunk in answer.iter_raw(1 << 20):
                    _write_sparse(descriptor, done, chunk)
                    done += len(chunk)
                    progress(done)
                if done != size:
                    raise Unavailable(str(path), f"only {done} of {size} bytes came", "try again")
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            beside.rename(path)
            return Written(size, answer.headers["etag"])
    except OSError as error:
        raise Unavailable(
            str(path), f"cannot be written ({error.strerror})", "check directory and free space"
        ) from None
    finally:
        beside.unlink(missing_ok=True)


def _write_sparse(descriptor: int, offset: int, chunk: bytes) -> None:
    start = 0
    while start < len(chunk):
        zero = _is_zero(chunk, start)
        end = start + _BLOCK
        while end < len(chunk) and _is_zero(chunk, end) == zero:
            end += _BLOCK
        if not zero:
            _write_all(descriptor, memoryview(chunk)[start:end], offset + start)
        start = end


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _is_zero(chunk: bytes, start: int) -> bool:
    block = chunk[start : start + _BLOCK]
    return block == _ZERO[: len(block)]
