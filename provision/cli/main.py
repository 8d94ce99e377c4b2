"""The entry point: global options, and every failure as one line and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from provision.cli import output
from provision.cli.commands import CommandGroup
from provision.cli.context import Context, use
from provision.errors import ProvisionError, Usage

EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid input, 4 denied by policy, 5 not found, 6 conflict with the
present state, 7 something outside (disk, network, tool) does not work.

First steps: 'provision init', 'provision image import base --kernel K --initrd I', 'provision apply site.yaml',
'provision iso HOST -o host.iso'. Or see it work first: 'provision demo'.
"""

_INTERRUPTED = 130
_JSON = "--json"
_WRONG_USAGE = cast(type[Exception], typer.BadParameter.__mro__[2])
"""What typer raises for a command line that it cannot parse: ClickException, which some versions do not export."""

app = typer.Typer(
    name="provision",
    cls=CommandGroup,
    help="Give every bare-metal hypervisor host its own identity at first power-on.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    found = version("provision")
    # This option is parsed before all others, and `main` puts --json first.
    if sys.argv[1:2] == [_JSON]:
        output.data({"version": found})
    else:
        output.say(f"provision {found}")
    raise typer.Exit


@app.callback()
def _options(
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="State directory [$PROVISION_STATE, /var/lib/provision]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings [$PROVISION_CONFIG, DIR/provision.toml]")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Ask this server, https://HOST[:PORT] [$PROVISION_SERVER]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs, errors included")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print which version this is")
    ] = False,
) -> None:
    if server is not None and (state is not None or config is not None):
        raise typer.BadParameter(
            "cannot be given with --state or --config, which are for the server on this machine", param_hint="--server"
        )
    use(Context(state, config, json, server))


def main() -> None:
    """Run the command line of this process and exit with its code."""
    arguments = [a for a in sys.argv[1:] if a != _JSON]
    wants_json = len(arguments) != len(sys.argv) - 1
    # `--json` is taken anywhere: people write it last.
    sys.argv[1:] = ([_JSON] if wants_json else []) + arguments
    try:
        _run(wants_json)
    finally:
        gc.freeze()  # Python's end would look through all that was loaded, which takes as long as most commands


def _run(wants_json: bool) -> None:
    try:
        if wants_json:
            _with_json_errors()
        else:
            app(prog_name="provision")
    except ProvisionError as error:
        output.failure(error, wants_json)
        sys.exit(int(error.exit))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as ended:
        # What typer makes of Ctrl-C.
        if ended.code == _INTERRUPTED:
            kept = ", except what --resume keeps" if "--resume" in sys.argv else ""
            sys.stderr.write(f"interrupted; nothing is left half-done{kept}\n")
        raise
    except OSError as error:
        remedy = "give a shorter path" if error.errno == errno.ENAMETOOLONG else ""
        _fail(str(error.filename or "provision"), error.strerror or type(error).__name__, wants_json, remedy)
    except Exception as error:
        from provision.web.problems import origin_of_error  # what it imports would slow every other run down

        # What the exception says is for nobody: it may hold anything.
        _fail("provision", f"internal error ({type(error).__name__} in {origin_of_error(error)})", wants_json)


def _with_json_errors() -> NoReturn:
    """Run the command line, and raise what typer would print by itself as a ProvisionError."""
    try:
        code = app(prog_name="provision", standalone_mode=False)
    except typer.Abort:
        raise ProvisionError("provision", "ended at a question", "nothing was changed") from None
    except _WRONG_USAGE as error:
        raise _usage(error) from None
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> Usage:
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "provision"
    fact = error.format_message()
    # A group without a command says all of its help.
    fact = "Missing command" if "\n" in fact.strip() else fact.rstrip(".")
    return Usage(command, fact, f"see '{command} --help'")


def _fail(subject: str, fact: str, wants_json: bool, remedy: str = "") -> NoReturn:
    output.failure(ProvisionError(subject, fact, remedy), wants_json)
    sys.exit(int(ProvisionError.exit))
