"""Asks a server by HTTP. Whoever answers may be anybody, so an answer is bounded in bytes and in time, and whatever is
wrong with it is one kind of error."""

import errno
import json
import re
import signal
import time
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_WITHOUT_NETWORK = 0.5


def ask(server, method, path, body=None, *, most, silence, seconds):
    """Status and content of the answer of the server at the URL `server`: all of it within `seconds`, with no more than
    `silence` seconds in between, and `most` bytes. Raises OSError."""
    parts = urlsplit(server)
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=silence)
    try:
        with _within(seconds):
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read(most + 1)
    except (HTTPException, ValueError) as error:
        raise OSError(f"no HTTP ({type(error).__name__})") from None
    finally:
        connection.close()
    if len(content) > most:
        raise OSError(f"an answer of more than {most} bytes")
    return answer.status, content


@contextmanager
def _within(seconds):
    """Ends with an OSError what takes longer, also what gets a byte now and then."""

    def late(*_):
        raise TimeoutError("the answer does not end")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def pause(error, seconds):
    """Wait before asking again: so long, and shorter while the error says that this machine has no network. Then nobody
    was asked, and whoever waits for the answer waits for the network alone."""
    time.sleep(_WITHOUT_NETWORK if getattr(error, "errno", None) == errno.ENETUNREACH else seconds)


def detail(content, otherwise):
    """Why a server says no, on one line for a console."""
    try:
        text = str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = otherwise
    return re.sub(r"[^ -~]", "?", text[:600])
