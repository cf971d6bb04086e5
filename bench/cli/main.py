"""The `weighbridge` command: registers one file a command, and turns errors into sentences and exit codes."""

import signal
import sys
import traceback
from types import FrameType

import typer

from ...optimize.errors import WeighbridgeError
from . import build, cache, compare, demo, doctor, gate, init, report, run, search, workloads
from .interrupts import Terminated

REFUSED = 2
"""What the system refuses (no such file, no permission, no space) is for the user to mend, as bad input is."""
INTERNAL_ERROR = 70
INTERRUPTED = 130
TERMINATED = 143

app = typer.Typer(
    name="weighbridge",
    help="Weigh every model variant before it goes on the road: build lighter variants, measure them, judge them.",
    epilog="Exit codes: 0 passed, 1 a rule failed, 2 usage or input error, 3 undecided, 4 a variant failed, 130/143 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (demo, run, compare, build, report, gate, search, doctor, init, workloads):
    app.command(module.__name__.rpartition(".")[2])(module.command)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
        return _interrupted(code) if code == INTERRUPTED else code
    except WeighbridgeError as error:
        _tell_error(str(error))
        return error.exit_code
    except OSError as error:
        _tell_error(f"the system refused {error.filename or 'it'}: {error.strerror or error}")
        return REFUSED
    except Terminated:
        return _interrupted(TERMINATED)
    except Exception:  # noqa: BLE001 - a bug of ours must not look like a failed gate
        traceback.print_exc()
        typer.echo("error: an internal error of Weighbridge; please report it with the lines above", err=True)
        return INTERNAL_ERROR
    return 0


def _tell_error(sentence: str) -> None:
    from .console import plain

    typer.echo(f"error: {plain(sentence)}", err=True)


def _interrupted(code: int) -> int:
    typer.echo("interrupted", err=True)
    return code


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated
