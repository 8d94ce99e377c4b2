"""`provision` with an API that knows one caller: who sends `Authorization: Bearer known-in-tests`.

Run as `python -m tests.helpers.known_caller --state DIR serve`.
"""

from __future__ import annotations

import sys
from typing import Any

from provision.principal import Principal
from provision.service.service import Service
from provision.web.operator import authentication
from provision.web.operator.authentication import Authenticate
from tests.helpers.principals import ROOT

PROGRAM = (sys.executable, "-m", "tests.helpers.known_caller")
HEADER = "Authorization: Bearer known-in-tests"
_refusing = authentication.by_token


def by_token(_service: Service) -> Authenticate:
    """Knows the one caller, and refuses all others as the real one does."""
    refuse = _refusing(_service)

    def authenticate(scope: Any) -> Principal:
        name, _, value = HEADER.partition(": ")
        return ROOT if (name.lower().encode(), value.encode()) in scope["headers"] else refuse(scope)

    return authenticate


if __name__ == "__main__":
    authentication.by_token = by_token
    from provision.cli import main

    main()
