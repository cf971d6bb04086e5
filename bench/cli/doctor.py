"""`weighbridge doctor`: what this machine can run, what would disturb a measurement on it, and how fine it can weigh."""

from typing import Annotated

import typer

_DEFAULT_SECONDS = 60.0


def command(
    seconds: Annotated[
        float | None,
        typer.Argument(min=5, metavar="SECONDS", help="With --noise: seconds of sampling, 5 or more; default 60."),
    ] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Measure the noise floor of this machine (A/A).")] = False,
) -> None:
    """Say of each backend whether it is usable or why not; cores, instruction sets, quota, governor, load; the noise floor."""
    from ...optimize.errors import ConfigError
    from ..noise import measure
    from .console import ConsoleReporter, standard_output
    from .machine import print_machine, print_noise

    console = standard_output()
    if noise:
        print_noise(measure(seconds or _DEFAULT_SECONDS, ConsoleReporter()), console)
    elif seconds is None:
        print_machine(console)
    else:
        raise ConfigError(f"SECONDS is for the noise floor only: `weighbridge doctor --noise {seconds:g}`")
