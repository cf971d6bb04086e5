"""`weighbridge doctor`: what this machine can run, and what would disturb a measurement on it."""

from typing import Annotated

import typer


def command(
    noise: Annotated[bool, typer.Option("--noise", help="Measure the noise floor of this machine (A/A).")] = False,
) -> None:
    """Say of each backend whether it is usable or why not; cores, instruction sets, governor, load."""
    from rich.table import Table

    from ...optimize.backends import backend, backend_names
    from ...optimize.errors import NotAvailableYetError
    from .. import environment
    from .console import standard_output

    if noise:
        raise NotAvailableYetError("doctor --noise is not available yet in this release")
    console = standard_output()
    cpu = environment.processor()
    console.print(f"{cpu.model}, {cpu.cores} cores", markup=False)
    console.print(f"instruction sets: {', '.join(cpu.instruction_sets) or 'none of those that matter here'}")
    table = Table(title="Backends", title_justify="left")
    for heading in ("backend", "usable", "version", "reason and remedy"):
        table.add_column(heading, overflow="fold")
    for name in backend_names():
        if name == "fake":
            continue
        found = backend(name).availability()
        words = ". ".join(part.rstrip(".") for part in (found.reason, found.remedy) if part)
        table.add_row(name, "yes" if found.usable else "no", found.version, words)
    console.print(table)
    for sentence in environment.advice() or ["Nothing disturbs a measurement now."]:
        console.print(sentence, markup=False)
