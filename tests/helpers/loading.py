"""What a command loads: whatever makes the command line slow to start must stay where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WEB = {"fastapi", "starlette", "uvicorn", "httptools", "uvloop"}
STORE = {"sqlalchemy", "cryptography", "sqlite3"}
PARTS = {"jinja2", "pycdlib", "pyroute2", "dns", "debian", "cyclonedx"}
CLIENT = {"httpx", "rich"}
HEAVY = WEB | STORE | PARTS | CLIENT
_RUN = """
import sys
from provision.cli import main
sys.argv[0] = "provision"
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str | Path) -> set[str]:
    """The packages that a run of the command line has loaded at its end."""
    argv = [sys.executable, "-c", _RUN, *map(str, arguments)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ran.stdout
    return set(ran.stderr.split())
