"""`weighbridge workloads`: the built-in workloads."""


def command() -> None:
    """List the built-in workloads; use one with `weighbridge run --workload NAME`."""
    from rich.table import Table

    from ..workloads import builtin, builtin_names
    from .console import standard_output

    table = Table()
    for heading in ("name", "task", "what it is"):
        table.add_column(heading, overflow="fold")
    for name in builtin_names():
        workload = builtin(name)
        table.add_row(name, workload.task, workload.description)
    standard_output().print(table)
